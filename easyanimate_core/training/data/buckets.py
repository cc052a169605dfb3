"""Batches of equal shape and equal token count: training by token length.

A token length N allows every shape whose latent frames x rows x columns are close to N without
exceeding it: 512 x 512 x 49, 768 x 768 x 21 and 1024 x 1024 x 9 cost the same. Each epoch, every
clip takes one of its shapes; a batch has a single shape, and all ranks get the same shape at the
same step, so that none waits for another.

Of a clip that is longer than a shape, a part is read: windows start all over it, and each has its
turn, in an order that depends only on the seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError, counted
from ...models.geometry import SIZE_MULTIPLE, SPATIAL_FACTOR, floor_frames, latent_frames
from .records import Record, Shape, generator_of

#: Pixels that one token covers on a side.
TOKEN_SIDE = 2 * SPATIAL_FACTOR

#: Windows of a clip per length, at most; each is encoded once and cached.
MOST_WINDOWS = 16


@dataclass(frozen=True)
class Draw:
    """One clip of a batch: its index, its shape, and how often it was drawn before.

    It is read from frame `start` on.
    """

    index: int
    shape: Shape
    epoch: int
    start: int = 0


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


def windows_of(record: Record, frames: int) -> list[int]:
    """The first frames of the windows of `frames` frames: few, and evenly spread over the clip.

    They leave nothing out, unless that takes more than `MOST_WINDOWS`.
    """
    length = record.frames if record.span is None else min(record.frames, record.span)
    spare = max(0, length - frames)
    count = min(MOST_WINDOWS, -(-length // frames))
    return [spare * i // (count - 1) for i in range(count)] if spare else [0]


def parts_used(record: Record, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """The parts of a clip that lie in a window of one of `lengths`: first frame, frame after."""
    fitting = {n for n in lengths if n <= record.frames}
    parts: list[tuple[int, int]] = []
    for start, end in sorted((s, s + n) for n in fitting for s in windows_of(record, n)):
        if parts and start <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(parts[-1][1], end))
        else:
            parts.append((start, end))
    return parts


def seconds_used(record: Record, shapes: Sequence[Shape]) -> float:
    """How many of a clip's seconds are seen in training if it takes all of `shapes` in turn."""
    used = sum(end - start for start, end in parts_used(record, [s.frames for s in shapes]))
    return record.seconds * used / record.frames


def remedy_for(record: Record, lengths: Sequence[int]) -> str:
    """What would give a clip without shapes one."""
    if min(record.height, record.width) < SIZE_MULTIPLE:
        return f"sides must have at least {SIZE_MULTIPLE} pixels"
    short = [n for n in lengths if n <= record.frames]
    if not short:
        return f"add {floor_frames(record.frames)} to data.frames"
    frames = min(short)
    area = (record.height // TOKEN_SIDE) * (record.width // TOKEN_SIDE)
    most = area * latent_frames(frames)
    fitting = (n for n in range(most, 0, -1) if shapes_for(record, (n,), (frames,)))
    return f"add {next(fitting)} to data.tokens"


class Batches:
    """The batches of a run, in an order that depends only on the seed.

    Args:
        records: The clips to draw from.
        shapes: The shapes that each record may take, at least one.
        tokens_per_batch: Tokens per device; a batch has as many clips as fit, at least one.
        ranks: Number of devices.
        seed: Seed of the order.

    Every clip is drawn `repeats` times per epoch. The last batch of a shape is filled up with that
    shape's first clips.
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
        self._records = records
        self._shapes = shapes
        self._entries = [(i, k) for i, record in enumerate(records) for k in range(record.repeats)]
        self._drawn = Counter[tuple[int, int]]()
        self._drawn_until = 0
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
        drawn = self._drawn_before(number)
        groups: dict[Shape, list[Draw]] = {}
        for index, shape, before in self._drawn_in(number, random):
            start = self._start(index, shape.frames, drawn[index, shape.frames])
            drawn[index, shape.frames] += 1
            groups.setdefault(shape, []).append(Draw(index, shape, before, start))
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

    def _drawn_in(
        self, number: int, random: np.random.Generator
    ) -> Iterator[tuple[int, Shape, int]]:
        """Every clip of an epoch, its shape, and how often the clip was drawn before."""
        for entry in random.permutation(len(self._entries)):
            index, turn = self._entries[entry]
            allowed = self._shapes[index]
            shape = allowed[int(random.integers(len(allowed)))]
            yield index, shape, number * self._records[index].repeats + turn

    def _drawn_before(self, number: int) -> Counter[tuple[int, int]]:
        """How often each length of each clip was drawn before an epoch: (index, frames)."""
        if number < self._drawn_until:
            self._drawn, self._drawn_until = Counter(), 0
        for earlier in range(self._drawn_until, number):
            random = generator_of(self._seed, earlier, "epoch")
            self._drawn.update((i, shape.frames) for i, shape, _ in self._drawn_in(earlier, random))
        self._drawn_until = number
        return self._drawn.copy()

    def _start(self, index: int, frames: int, turn: int) -> int:
        """The window whose turn it is: all of them come before one comes again."""
        windows = windows_of(self._records[index], frames)
        round_number, place = divmod(turn, len(windows))
        if len(windows) == 1:
            return windows[0]
        order = generator_of(self._seed, index, frames, round_number, "windows")
        return windows[int(order.permutation(len(windows))[place])]

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
