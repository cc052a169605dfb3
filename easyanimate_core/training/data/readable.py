"""Reads every clip once before the first step, so that a bad file is found early.

The cache remembers readable clips, so that the next run skips them; unreadable ones are tried
again every time, because they may have been fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...errors import EasyAnimateError, InputError, MediaError
from ...files import atomic_file, discard
from ...models.geometry import SIZE_MULTIPLE
from ...progress import Progress, silent
from .cache import digest, tell_once
from .records import Record, Sample, Shape


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
        faults = []
        progress("check", 0, len(numbers))
        for done, number in enumerate(numbers, start=1):
            fault = self._fault(records[number])
            if fault:
                name = records[number].name
                faults.append((number, fault if name in fault else f"{name}: {fault}"))
            progress("check", done, len(numbers))
        return faults

    def guarded(self, record: Record) -> Record:
        """The record; if it becomes unreadable, the next run checks it again."""
        return replace(record, load=partial(_load_or_forget, record.load, self._mark(record)))

    def _fault(self, record: Record) -> str:
        """Why it cannot be read, empty if it can. Too short clips are left for the buckets."""
        frames, mark = self._frames(record), self._mark(record)
        if not frames or mark.is_file():
            return ""
        try:
            sample = record.load(Shape(frames, SIZE_MULTIPLE, SIZE_MULTIPLE))
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

    def _frames(self, record: Record) -> int:
        """The most frames that training reads of it, 0 if it is too short for all lengths."""
        return max((n for n in self.lengths if n <= record.frames), default=0)

    def _mark(self, record: Record) -> Path:
        name = digest(record.identity, self._frames(record), self.needs)
        return self.kept / name[:2] / name


def _load_or_forget(load: Callable[[Shape], Sample], mark: Path, shape: Shape) -> Sample:
    try:
        return load(shape)
    except EasyAnimateError as error:
        discard(mark)
        raise MediaError(
            f"{error} It could be read when the run began. Start the run again: it resumes from "
            "its last state and leaves out clips that cannot be read."
        ) from error
