"""Clips in memory, and what their files say of them."""

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
    """`frames` [F, H, W, 3] float32 in [0, 1], shown at `fps` frames per second on the average.

    A clip of a file knows more. `timing` is of every frame that was read (None: all are shown
    equally long); `numbers` tell which of them `frames` are (None: all); `source_size` is the
    (height, width) that the file is shown at. `notes` say what was changed so that it looks here
    as a player shows it; `kept_lines`, that it is a drawing which was scaled at full strength;
    `is_damaged`, that some of the frames that were read are in part what the decoder made up.
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
        """When its source's frames are shown."""
        return self.timing or Timing.steady(len(self.frames), self.fps)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its source."""
        return self.source_size or (self.frames.shape[1], self.frames.shape[2])

    def at_even_moments(self, fps: float) -> Clip:
        """For uses that know one rate alone: at each moment i / `fps` the frame nearest to it.

        A clip whose frames are all shown equally long stays as it is.
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
        """Where in `frames` the frames of these numbers are."""
        if self.numbers is None:
            return picked
        places = {number: row for row, number in enumerate(self.numbers)}
        if not places.keys() >= set(picked):
            raise InputError(
                "The clip was read for another rate, and frames that this one needs were left out. "
                "Read it for this rate."
            )
        return [places[number] for number in picked]


@dataclass(frozen=True)
class Masks:
    """Masks [F, H, W] of 0 and 1 from a file, 1 = generate, and notes as of a clip."""

    frames: Tensor
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fit:
    """What a file is read for: its frames nearest to moments of `fps`, at `size`.

    `size` (height, width) None is the trained size nearest to the source's aspect. Frames are
    scaled while they are decoded, and the others are not kept: memory follows the result. With
    `keep_lines` drawings of thin lines are scaled at full strength.
    """

    fps: float
    size: tuple[int, int] | None = None
    keep_lines: bool = False

    def size_for(self, source: tuple[int, int]) -> tuple[int, int]:
        """The size of the result from a source of a (height, width)."""
        return self.size or bucket_size(*source)


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says of itself: the size it is shown at, average rate, number of frames.

    `even_fps` is a rate whose moments lie on all its frames, or next to them where they keep to no
    rate; where every frame is shown equally long (`is_even`), it is `fps`. `notes` are those of its
    first frame, as of a clip.
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
        """`notes` of one that is taken at even moments of `even_fps`."""
        return self.notes if self.is_even else (*self.notes, uneven_note(self.even_fps))

    @property
    def seconds(self) -> float:
        """How long it is shown."""
        return self.frames / self.fps

    def frames_at(self, fps: float) -> int:
        """How many frames it gives at another rate."""
        step = min(1 / (self.even_fps or self.fps), self.seconds)
        return num_moments(self.seconds - step / 2, fps)
