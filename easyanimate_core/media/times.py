"""Frame times of a clip, and the frame nearest to a given time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

#: Frames per second of the published models' training clips and the original's demos; also for
#: images that are read as a clip.
DEFAULT_FPS = 8.0

# Clips with a variable rate are resampled to at most this constant rate.
_MAX_EVEN_FPS = 60.0

# Tolerance for rounding in times that should be equal, relative to the frame interval.
_MARGIN = 1e-6


@dataclass(frozen=True)
class Timing:
    """Start of each frame and `end` of the last one, in seconds after the first frame.

    `step` is the typical interval between two frames.
    """

    starts: tuple[float, ...]
    end: float
    step: float

    @classmethod
    def steady(cls, frames: int, fps: float) -> Timing:
        """`frames` frames of equal duration."""
        return cls(tuple(i / fps for i in range(frames)), frames / fps, 1 / fps)

    @classmethod
    def of_frames(cls, starts: Sequence[float], end: float, fps: float) -> Timing:
        """Frames with individual times; `fps` is the declared average rate."""
        gaps = [b - a for a, b in pairwise(starts)]
        usual = median(gaps) if gaps else min(1 / fps, end)
        # In a damaged file more than half of the frames may have the same time.
        return cls(tuple(starts), end or 1 / fps, usual or 1 / fps)

    @property
    def is_steady(self) -> bool:
        """Whether all frames but the last have the same duration, within 10%."""
        return all(abs(b - a - self.step) <= 0.1 * self.step for a, b in pairwise(self.starts))

    @property
    def is_even(self) -> bool:
        """Whether all frames, including the last, have the same duration."""
        return self.is_steady and self.end - self.starts[-1] <= 1.5 * self.step

    def even_rate(self, declared: float) -> float:
        """A constant rate that hits all frames, or comes close: that of the shorter intervals."""
        gaps = sorted(b - a for a, b in pairwise(self.starts) if b > a)
        quick = gaps[len(gaps) // 5] if gaps else self.step
        alike = [gap for gap in gaps if quick / 1.4 < gap < quick * 1.4]  # up to clock ticks
        usual = 1 / (mean(alike) if alike else quick)
        return declared if abs(usual / declared - 1) < 0.005 else min(usual, _MAX_EVEN_FPS)

    def nearest(self, moment: float) -> int:
        """The frame whose start is nearest; the earlier one on a tie."""
        later = bisect_right(self.starts, moment)
        if later == len(self.starts) or (
            later > 0 and is_nearer_to_earlier(moment, self.starts[later - 1], self.starts[later])
        ):
            later -= 1
        # Of frames with the same start the last is displayed.
        return bisect_right(self.starts, self.starts[later]) - 1

    def count(self, fps: float) -> int:
        """How many times i / `fps` the clip covers.

        The last half step does not count, because a next frame would be nearer.
        """
        half = min(self.step, self.end - self.starts[-1]) / 2
        return num_moments(self.end - half, fps)

    def pick(self, frames: int, fps: float) -> list[int]:
        """The frames nearest to the first `frames` times i / `fps`."""
        return [self.nearest(i / fps) for i in range(frames)]


def uneven_note(fps: float) -> str:
    """The note for a clip with a variable rate that is resampled to a constant one."""
    return f"Its frame rate varies; it is read at a constant {fps:g} frames per second."


def num_moments(until: float, fps: float) -> int:
    """How many times i / `fps` there are up to and including `until`."""
    return max(1, math.floor(until * fps * (1 + 1e-9) + _MARGIN) + 1)


def is_nearer_to_earlier(moment: float, earlier: float, later: float) -> bool:
    """Whether `moment` is nearer to the earlier of two frames, which also wins a tie."""
    return moment - earlier <= later - moment + _MARGIN * (later - earlier)
