"""What every kind of clip is while it is read: frames one by one, each with its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import MediaError
from .seen import Seen
from .times import is_nearer_to_earlier

# Ten minutes at 60 frames per second.
_MAX_REPEATS = 36_000


@dataclass(frozen=True)
class StreamedFrame:
    """A frame, `number` from 0, shown from `start` to `end` in seconds after the first.

    What is in it is worked out when it is asked for. One that `is_damaged` is shown as the decoder
    has filled it in.
    """

    number: int
    start: float
    end: float
    _see: Callable[[tuple[int, int] | None], Seen]
    is_damaged: bool = False

    def see(self, cover: tuple[int, int] | None = None) -> Seen:
        """As a person would see it; where that saves work, no larger than `cover` needs."""
        return self._see(cover)

    def pixels(self) -> np.ndarray[Any, Any]:
        """uint8 RGB [H, W, 3], as a person would see it."""
        return self.see().pixels


@dataclass(frozen=True)
class Film:
    """An open clip. `rate` is what it says of itself; `notes` grow while it is read."""

    rate: float
    frames: Iterator[StreamedFrame]
    notes: list[str] = field(default_factory=list)


def at_even_moments(frames: Iterator[StreamedFrame], fps: float) -> Iterator[StreamedFrame]:
    """For each moment i / `fps` of a clip the frame nearest to it, numbered by the moments.

    The end is that of the last frame, to the nearest moment.

    Raises:
        MediaError: A frame is shown for longer than a clip that is meant to be watched.
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


def damaged(path: object) -> MediaError:
    """For uses that want no picture which a decoder has made up in part."""
    return MediaError(
        f"{path} is damaged: parts of its frames are missing. Copy it again, or cut them off."
    )


def check_repeats(seconds: float, fps: float) -> None:
    """Raise `MediaError` where one picture would stand for too many frames."""
    if seconds * fps > _MAX_REPEATS:
        raise MediaError(
            f"The clip shows one picture for {seconds:.0f} seconds, which is {seconds * fps:.0f} "
            f"frames at {fps:g} per second; at most {_MAX_REPEATS} are made of one. Its times "
            "may be damaged; cut it, or re-encode it."
        )


def _again(frame: StreamedFrame, number: int, first: int, fps: float) -> StreamedFrame:
    """`frame` as the one of a `number`; `first` was the number with which it appeared."""
    check_repeats((number - first) / fps, fps)
    return replace(frame, number=number, start=number / fps, end=(number + 1) / fps)
