"""Reads every clip once before the first step, so that a bad file is found early.

The cache remembers readable clips, so that the next run skips them; unreadable ones are tried
again every time, because they may have been fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...errors import EasyAnimateError, InputError, MediaError
from ...files import atomic_file, discard
from ...models.geometry import SIZE_MULTIPLE, floor_frames
from ...progress import Progress, silent
from .buckets import parts_used
from .cache import digest, tell_once
from .records import Load, Record, Sample, Shape
from .threads import in_threads


@dataclass(frozen=True)
class Reading:
    """How clips are read: `lengths` in frames, and what the task `needs` in addition to the clip.

    `kept` is the folder that remembers readable clips.
    """

    lengths: Sequence[int]
    kept: Path
    needs: str = ""

    def unreadable(
        self, records: Sequence[Record], share: slice, progress: Progress = silent
    ) -> list[tuple[int, str]]:
        """Index and fault of each unreadable record in `share`. Reports the stage "check"."""
        numbers = range(len(records))[share]
        found = in_threads(self._fault, [records[n] for n in numbers], "check", progress)
        faults = [(number, fault) for number, fault in zip(numbers, found, strict=True) if fault]
        names = [records[number].name for number, _ in faults]
        return [
            (number, fault if name in fault else f"{name}: {fault}")
            for name, (number, fault) in zip(names, faults, strict=True)
        ]

    def guarded(self, record: Record) -> Record:
        """The record; if it becomes unreadable, the next run checks it again."""
        return replace(record, load=partial(_load_or_forget, record.load, self._mark(record)))

    def _fault(self, record: Record) -> str:
        """Why it cannot be read, empty if it can. Too short clips are left for the buckets."""
        mark = self._mark(record)
        if mark.is_file():
            return ""
        try:
            for start, frames in self._pieces(record):
                sample = record.load(Shape(frames, SIZE_MULTIPLE, SIZE_MULTIPLE), start)
                self._check_whole(sample)
        except EasyAnimateError as error:
            return str(error)
        try:
            with atomic_file(mark, spare=False) as scratch:
                scratch.touch()
        except MediaError:
            tell_once(self.kept, "is read again by the next run")
        return ""

    def _check_whole(self, sample: Sample) -> None:
        if self.needs and getattr(sample, self.needs) is None:
            raise InputError(f"It has no {self.needs}_file_path, which the task needs.")

    def _pieces(self, record: Record) -> list[tuple[int, int]]:
        """All that training reads of it, as few pieces of 4n + 1 frames: first frame and length."""
        pieces = []
        for first, end in parts_used(record, self.lengths):
            start = first
            while start < end:
                pieces.append((start, floor_frames(end - start)))
                start += pieces[-1][1]
        return pieces

    def _mark(self, record: Record) -> Path:
        name = digest(record.identity, self._pieces(record), self.needs)
        return self.kept / name[:2] / name


def _load_or_forget(load: Load, mark: Path, shape: Shape, start: int = 0) -> Sample:
    try:
        return load(shape, start)
    except (EasyAnimateError, OSError) as error:
        discard(mark)
        raise MediaError(str(error)) from error
