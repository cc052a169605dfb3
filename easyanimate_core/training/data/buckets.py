"""Batches of equal shape and equal token count: training by token length.

A token length N allows every shape whose latent frames x rows x columns are close to N without
exceeding it: 512 x 512 x 49, 768 x 768 x 21 and 1024 x 1024 x 9 cost the same. Each epoch, every
clip takes one of its shapes; a batch has a single shape, and all ranks get the same shape at the
same step, so that none waits for another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import InputError, counted
from ...models.geometry import SPATIAL_FACTOR, latent_frames
from .records import Record, Shape, generator_of

#: Pixels that one token covers on a side.
TOKEN_SIDE = 2 * SPATIAL_FACTOR


@dataclass(frozen=True)
class Draw:
    """One clip of a batch: its index, its shape, and how often it was drawn before."""

    index: int
    shape: Shape
    epoch: int


def shapes_for(record: Record, tokens: Sequence[int], lengths: Sequence[int]) -> list[Shape]:
    """The shapes that fit a clip without upscaling or repeating it, one per length and bucket.

    They keep the clip's aspect ratio, up to rounding each side to a multiple of 16.
    """
    shapes = []
    for budget in tokens:
        for frames in lengths:
            area = budget / latent_frames(frames)  # tokens of one latent frame
            if frames > record.frames or area < 1:
                continue
            rows = math.sqrt(area * record.height / record.width)
            # Rounded to nearest, as far as the budget allows.
            height = max(1, round(rows))
            width = max(1, min(round(area / rows), int(area / height + 1e-6)))
            shape = Shape(frames, height * TOKEN_SIDE, width * TOKEN_SIDE)
            if shape.height <= record.height and shape.width <= record.width:
                shapes.append(shape)
    return list(dict.fromkeys(shapes))


class Batches:
    """The batches of a run, in an order that depends only on the seed.

    Args:
        records: The clips to draw from.
        shapes: The shapes that each record may take, at least one.
        tokens_per_batch: Tokens per device; a batch has as many clips as fit, at least one.
        ranks: Number of devices.
        seed: Seed of the order.

    Every clip is drawn once per epoch. The last batch of a shape is filled up with that shape's
    first clips.
    """

    def __init__(
        self,
        records: Sequence[Record],
        shapes: Sequence[Sequence[Shape]],
        *,
        tokens_per_batch: int,
        ranks: int = 1,
        seed: int = 0,
    ) -> None:
        self._shapes = shapes
        self._tokens = tokens_per_batch
        self._ranks = ranks
        self._seed = seed
        if not records:
            raise InputError("There is nothing to train on: the data has no clips.")
        empty = [record for record, own in zip(records, shapes, strict=True) if not own]
        if empty:
            first = empty[0]
            raise InputError(
                f"{len(empty)} of {len(records)} clips fit no bucket, such as "
                f"{first.name or 'one'} of {counted(first.frames, 'frame')} of {first.height} x "
                f"{first.width}: it is smaller or shorter than all of them. Add smaller token "
                "lengths or shorter frames, or filter such clips out."
            )

    @property
    def shapes(self) -> Sequence[Sequence[Shape]]:
        """The shapes that each record may take."""
        return self._shapes

    @property
    def tokens_per_batch(self) -> int:
        """Tokens per device and batch."""
        return self._tokens

    def epoch(self, number: int) -> list[list[list[Draw]]]:
        """The steps of an epoch: for each, the batch of every rank."""
        random = generator_of(self._seed, number, "epoch")
        groups: dict[Shape, list[Draw]] = {}
        for index in random.permutation(len(self._shapes)):
            allowed = self._shapes[index]
            shape = allowed[int(random.integers(len(allowed)))]
            groups.setdefault(shape, []).append(Draw(int(index), shape, number))
        steps = []
        for shape in sorted(groups):
            draws = groups[shape]
            size = max(1, self._tokens // shape.tokens)
            needed = size * self._ranks
            filled = [draws[i % len(draws)] for i in range(-(-len(draws) // needed) * needed)]
            for start in range(0, len(filled), needed):
                step = filled[start : start + needed]
                steps.append([step[rank :: self._ranks] for rank in range(self._ranks)])
        return [steps[i] for i in random.permutation(len(steps))]

    def of_rank(self, rank: int, position: int = 0) -> Iterator[list[Draw]]:
        """The endless batches of one rank, after the first `position` ones."""
        number = 0
        while True:
            steps = self.epoch(number)
            number += 1
            if position >= len(steps):
                position -= len(steps)
                continue
            yield from (step[rank] for step in steps[position:])
            position = 0
