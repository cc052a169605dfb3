"""Reads the draws of a batch; the place of a clip that can no longer be read is taken by another.

Which one depends only on the seed and the draw, so that a resumed run takes the same, and it has
the shape that the batch, and those of all other processes, have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from ...errors import MediaError, counted
from ...models.geometry import floor_frames
from ...paths.camera import CameraPath
from .buckets import Draw, windows_of
from .records import Record, Sample, Shape, generator_of

T = TypeVar("T")
#: Turns what one process has into what all processes have.
Gather = Callable[[list[tuple[str, str]]], list[tuple[str, str]]]


@dataclass
class Lost:
    """Clips that could no longer be read: their faults by name, and how often each was missed."""

    faults: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def add(self, faults: Mapping[str, str]) -> None:
        """Count the clips that a batch missed."""
        for name, fault in faults.items():
            self.faults.setdefault(name, fault)
            self.times[name] = self.times.get(name, 0) + 1

    def news(self, gather: Gather) -> list[str]:
        """A note for each clip that is new since the last call, in any process."""
        own = [(name, fault) for name, fault in self.faults.items() if name not in self._told]
        new = {name: fault for name, fault in gather(own) if name not in self._told}
        self._told.update(new)
        return [f"a clip can no longer be read and is skipped: {fault}" for fault in new.values()]

    @contextmanager
    def skipping(self, record: Record) -> Iterator[None]:
        """Count a clip that turns out to be unreadable in the `with` block, and go on."""
        try:
            yield
        except MediaError as error:
            self.add({record.name: str(error)})

    @staticmethod
    def summary(all_ranks: Sequence[Lost]) -> list[str]:
        """What the run says at its end about the clips that its processes missed."""
        faults = {name: fault for lost in all_ranks for name, fault in lost.faults.items()}
        if not faults:
            return []
        total = sum(sum(lost.times.values()) for lost in all_ranks)
        lines = "\n  ".join(faults[name] for name in sorted(faults))
        return [
            f"{counted(len(faults), 'clip')} became unreadable during the run and had to be "
            f"skipped {counted(total, 'time')}:\n  {lines}"
        ]


@dataclass(frozen=True)
class Loading:
    """`records` with the `shapes` that each may take."""

    records: Sequence[Record]
    shapes: Sequence[Sequence[Shape]]
    seed: int

    def read(self, draw: Draw, read: Callable[[Draw], T], missed: dict[str, str]) -> tuple[Draw, T]:
        """What `read` returns for a draw, or for the first readable one in its place.

        `missed` receives the faults of clips that cannot be read.

        Raises:
            MediaError: No clip at all can be read.
        """
        faults: dict[str, str] = {}
        for candidate in self._candidates(draw):
            try:
                found = read(candidate)
            except MediaError as error:
                faults[self.records[candidate.index].name] = str(error)
                continue
            missed |= faults
            return candidate, found
        raise MediaError(
            f"None of the {counted(len(self.records), 'clip')} can be read any longer, such as: "
            f"{next(iter(faults.values()))} They could be read when the run began. Bring the files "
            "back and start the run again: it resumes from its last state."
        )

    def load(self, draw: Draw) -> Sample:
        """The sample of a draw; a clip that is shorter holds its last frame."""
        record, shape = self.records[draw.index], draw.shape
        if record.frames >= shape.frames:
            return record.load(shape, draw.start)
        sample = record.load(shape._replace(frames=floor_frames(record.frames)))
        return _held(sample, shape.frames)

    def _candidates(self, draw: Draw) -> Iterator[Draw]:
        """The draw, then those in its place: of its shape, else scaled, else held to its length."""
        yield draw
        random = generator_of(self.seed, draw.index, draw.epoch, "instead")
        others = [int(i) for i in random.permutation(len(self.records)) if i != draw.index]

        def distance(index: int) -> int:
            if draw.shape in self.shapes[index]:
                return 0
            return 1 if self.records[index].frames >= draw.shape.frames else 2

        for index in sorted(others, key=distance):
            windows = windows_of(self.records[index], draw.shape.frames)
            start = windows[draw.epoch % len(windows)]
            yield replace(draw, index=index, start=start)


def _held(sample: Sample, frames: int) -> Sample:
    def longer(part: Tensor | None) -> Tensor | None:
        if part is None:
            return None
        return torch.cat([part, part[-1:].expand(frames - len(part), *part.shape[1:])])

    camera, pixels = sample.camera, longer(sample.frames)
    assert pixels is not None
    if camera is not None:
        poses = longer(camera.world_to_camera)
        assert poses is not None
        more = camera.intrinsics[-1:] * (frames - len(camera))
        camera = CameraPath(poses, camera.intrinsics + more)
    return Sample(pixels, longer(sample.control), camera, longer(sample.masks))
