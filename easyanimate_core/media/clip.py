"""Clips in memory, and facts about their files."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from ..errors import InputError
from ..models.geometry import bucket_size
from .film import check_repeats
from .times import Timing, num_moments, uneven_note


@dataclass(frozen=True)
class Clip:
    """`frames` [F, H, W, 3] float32 in [0, 1], at `fps` frames per second on average.

    A clip from a file has more. `timing` covers every frame that was read (None: all have the same
    duration); `numbers` are the indices of `frames` among them (None: all); `source_size` is the
    (height, width) at which the file is displayed. `notes` list the conversions that make it look
    as in a player; `kept_lines`: it is a line drawing scaled at full strength; `is_damaged`: parts
    of some frames were made up by the decoder.
    """

    frames: Tensor
    fps: float
    timing: Timing | None = None
    numbers: tuple[int, ...] | None = None
    source_size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    kept_lines: bool = False
    is_damaged: bool = False

    @property
    def times(self) -> Timing:
        """The timing of the source's frames."""
        return self.timing or Timing.steady(len(self.frames), self.fps)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the source."""
        return self.source_size or (self.frames.shape[1], self.frames.shape[2])

    def at_even_moments(self, fps: float) -> Clip:
        """Resample to a constant rate: for each time i / `fps`, the nearest frame.

        A clip whose frames all have the same duration is returned unchanged.
        """
        times = self.times
        if times.is_even:
            return self
        for start, end in pairwise((*times.starts, times.end)):
            check_repeats(end - start, fps)
        rows = self.rows(times.pick(times.count(fps), fps))
        return Clip(
            self.frames[rows],
            fps,
            source_size=self.source_size,
            notes=(*self.notes, uneven_note(fps)),
            is_damaged=self.is_damaged,
        )

    def rows(self, picked: list[int]) -> list[int]:
        """Positions in `frames` of the frames with these numbers."""
        if self.numbers is None:
            return picked
        places = {number: row for row, number in enumerate(self.numbers)}
        if not places.keys() >= set(picked):
            raise InputError(
                "The clip was read for another rate, and frames needed here were skipped. Read it "
                "for this rate."
            )
        return [places[number] for number in picked]


@dataclass(frozen=True)
class Masks:
    """Binary masks [F, H, W] from a file, 1 = generate, with notes as in `Clip`."""

    frames: Tensor
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """The rate and size at which a file is read: the frames nearest to multiples of 1 / `fps`.

    `size` is (height, width); None chooses the trained size closest to the source's aspect ratio.
    Frames are scaled during decoding and unused ones dropped, so that memory depends on the result
    only. With `keep_lines` drawings of thin lines are scaled at full strength.
    """

    fps: float
    size: tuple[int, int] | None = None
    keep_lines: bool = False

    def size_for(self, source: tuple[int, int]) -> tuple[int, int]:
        """The resulting size for a source of size (height, width)."""
        return self.size or bucket_size(*source)


@dataclass(frozen=True)
class VideoFacts:
    """Facts about a video file: display size, average rate, number of frames.

    `even_fps` is a constant rate that hits all frames, or comes close if the rate varies; if all
    frames have the same duration (`is_even`), it equals `fps`. `notes` are those of the first
    frame, as in `Clip`.
    """

    height: int
    width: int
    fps: float
    frames: int
    even_fps: float = field(default=0.0, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    is_even: bool = field(default=True, compare=False)

    @property
    def even_notes(self) -> tuple[str, ...]:
        """`notes` for the video resampled to `even_fps`."""
        return self.notes if self.is_even else (*self.notes, uneven_note(self.even_fps))

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.fps

    def frames_at(self, fps: float) -> int:
        """Number of frames at another rate."""
        step = min(1 / (self.even_fps or self.fps), self.seconds)
        return num_moments(self.seconds - step / 2, fps)
