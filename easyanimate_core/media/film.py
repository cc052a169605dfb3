"""The common form of every clip while it is read: a stream of frames with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from ..errors import MediaError
from .seen import Seen
from .times import is_nearer_to_earlier

# Ten minutes at 60 frames per second.
_MAX_REPEATS = 36_000


@dataclass(frozen=True)
class StreamedFrame:
    """A frame: its `number` from 0, and `start` and `end` in seconds after the first frame.

    Its pixels are computed on demand. If `is_damaged`, the decoder has filled in missing parts.
    """

    number: int
    start: float
    end: float
    _see: Callable[[tuple[int, int] | None], Seen]
    is_damaged: bool = False
    _size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as displayed, without converting pixels if they are not needed for it."""
        height, width = self._size or self.pixels().shape[:2]
        return height, width

    def see(self, cover: tuple[int, int] | None = None) -> Seen:
        """The frame as displayed; no larger than `cover` needs, if that saves work."""
        return self._see(cover)

    def pixels(self) -> np.ndarray[Any, Any]:
        """The frame as displayed, uint8 RGB [H, W, 3]."""
        return self.see().pixels


@dataclass(frozen=True)
class Film:
    """An open clip. `rate` is the declared rate; `notes` grow while it is read."""

    rate: float
    frames: Iterator[StreamedFrame]
    notes: list[str] = field(default_factory=list)


def at_even_moments(frames: Iterator[StreamedFrame], fps: float) -> Iterator[StreamedFrame]:
    """Resample to a constant rate: for each time i / `fps`, the nearest frame, renumbered.

    The clip ends with its last frame, rounded to the nearest 1 / `fps`.

    Raises:
        MediaError: A frame is shown for implausibly long.
    """
    count, earlier = 0, None
    for later in frames:
        first = count
        while earlier and is_nearer_to_earlier(count / fps, earlier.start, later.start):
            yield _again(earlier, count, first, fps)
            count += 1
        earlier = later
    first = count
    while earlier and (count == 0 or (count + 0.5) / fps <= earlier.end + 1e-6):
        yield _again(earlier, count, first, fps)
        count += 1


def from_moment(frames: Iterator[StreamedFrame], start: float) -> Iterator[StreamedFrame]:
    """The frames from the one shown at `start` seconds on, renumbered; times count from `start`.

    Damage before it may have spoilt it, so that it counts as its own.
    """
    if not start:
        yield from frames
        return
    earlier = next(frames)
    for later in frames:
        if later.start > start:
            yield _moved(earlier, 0, start)
            rest = chain([later], frames)
            yield from (_moved(frame, number, start) for number, frame in enumerate(rest, 1))
            return
        earlier = replace(later, is_damaged=later.is_damaged or earlier.is_damaged)
    yield _moved(earlier, 0, start)


def damaged(path: object) -> MediaError:
    """The error for uses that cannot accept frames with parts made up by the decoder."""
    return MediaError(
        f"{path} is damaged: parts of its frames are missing. Copy it again, or cut them out."
    )


def check_repeats(seconds: float, fps: float) -> None:
    """Raise `MediaError` if one picture would be repeated for too many frames."""
    if seconds * fps > _MAX_REPEATS:
        raise MediaError(
            f"The clip shows one picture for {seconds:.0f} seconds, which is {seconds * fps:.0f} "
            f"frames at {fps:g} per second; at most {_MAX_REPEATS} are allowed. Its timestamps "
            "may be damaged; cut it, or re-encode it."
        )


def _moved(frame: StreamedFrame, number: int, start: float) -> StreamedFrame:
    return replace(frame, number=number, start=frame.start - start, end=frame.end - start)


def _again(frame: StreamedFrame, number: int, first: int, fps: float) -> StreamedFrame:
    """`frame` repeated as frame `number`; `first` was its first number."""
    check_repeats((number - first) / fps, fps)
    return replace(frame, number=number, start=number / fps, end=(number + 1) / fps)
