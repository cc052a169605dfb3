"""When the frames of a clip are shown, and which of them is nearest to a moment."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

#: Frames per second of the published models' training clips and of the original's demos, and of
#: pictures that are read as a clip.
DEFAULT_FPS = 8.0

# Frames that keep to no rate are laid on even moments of this rate at most.
_MAX_EVEN_FPS = 60.0

# Absorbs rounding in times that would meet exactly, as a share of the distance of two frames.
_MARGIN = 1e-6


@dataclass(frozen=True)
class Timing:
    """In seconds after the first frame: when each frame appears, and the `end` of the last one.

    `step` is the usual distance of two frames.
    """

    starts: tuple[float, ...]
    end: float
    step: float

    @classmethod
    def steady(cls, frames: int, fps: float) -> Timing:
        """`frames` frames, each shown as long as the others."""
        return cls(tuple(i / fps for i in range(frames)), frames / fps, 1 / fps)

    @classmethod
    def of_frames(cls, starts: Sequence[float], end: float, fps: float) -> Timing:
        """Frames with times of their own; `fps` is what their file says on the average."""
        gaps = [b - a for a, b in pairwise(starts)]
        usual = median(gaps) if gaps else min(1 / fps, end)
        # Of a damaged file more than half of the frames may have one time.
        return cls(tuple(starts), end or 1 / fps, usual or 1 / fps)

    @property
    def is_steady(self) -> bool:
        """Whether all frames but the last are shown equally long, up to a tenth of it."""
        return all(abs(b - a - self.step) <= 0.1 * self.step for a, b in pairwise(self.starts))

    @property
    def is_even(self) -> bool:
        """Whether all frames are."""
        return self.is_steady and self.end - self.starts[-1] <= 1.5 * self.step

    def even_rate(self, declared: float) -> float:
        """A rate whose moments lie on all frames, or next to them: that of the quicker ones."""
        gaps = sorted(b - a for a, b in pairwise(self.starts) if b > a)
        quick = gaps[len(gaps) // 5] if gaps else self.step
        alike = [gap for gap in gaps if quick / 1.4 < gap < quick * 1.4]  # up to clock ticks
        usual = 1 / (mean(alike) if alike else quick)
        return declared if abs(usual / declared - 1) < 0.005 else min(usual, _MAX_EVEN_FPS)

    def nearest(self, moment: float) -> int:
        """The frame whose start is nearest; the earlier one where two are as near."""
        later = bisect_right(self.starts, moment)
        if later == len(self.starts) or (
            later > 0 and is_nearer_to_earlier(moment, self.starts[later - 1], self.starts[later])
        ):
            later -= 1
        # Of frames with the same start the last is seen.
        return bisect_right(self.starts, self.starts[later]) - 1

    def count(self, fps: float) -> int:
        """How many moments i / `fps` the clip covers.

        Its last half step does not count, for a next frame would be nearer.
        """
        half = min(self.step, self.end - self.starts[-1]) / 2
        return num_moments(self.end - half, fps)

    def pick(self, frames: int, fps: float) -> list[int]:
        """The frames nearest to the first `frames` moments i / `fps`."""
        return [self.nearest(i / fps) for i in range(frames)]


def uneven_note(fps: float) -> str:
    """What to say where a clip that keeps to no rate is taken at one."""
    return f"Its frames are not shown equally long; it is taken at {fps:g} frames per second."


def num_moments(until: float, fps: float) -> int:
    """How many moments i / `fps` there are up to a time, and with it."""
    return max(1, math.floor(until * fps * (1 + 1e-9) + _MARGIN) + 1)


def is_nearer_to_earlier(moment: float, earlier: float, later: float) -> bool:
    """Whether the earlier of two frames is the one for a moment: a tie is its own."""
    return moment - earlier <= later - moment + _MARGIN * (later - earlier)
