"""Sources in memory, and the common rules for aligning them with the result.

Shapes: F frames, H and W height and width, C colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ..conditioning.condition import Sources
from ..conditioning.encode import to_model_range
from ..media import (
    Clip,
    Masks,
    Source,
    align_clip,
    available_frames,
    load_picture,
    resize_cover,
)
from ..media.align import REPEAT_BY
from ..models.geometry import cover_crop, floor_frames

DEFAULT_FRAMES = 49


@dataclass(frozen=True)
class Target:
    """The requested result: size in pixels, length in frames (4n + 1), frames per second.

    `short` is what to do with a clip that is too short: refuse it, or repeat its last frame;
    `repeat_by` is what the user sets for the latter, in messages.
    """

    height: int
    width: int
    frames: int
    fps: float = 8.0
    short: Literal["refuse", "repeat"] = "refuse"
    repeat_by: str = REPEAT_BY


@dataclass(frozen=True)
class Loaded:
    """A task's sources in memory, checked. This base class has none.

    Modes with sources have their own subclass, with the sources as fields.
    """

    def source_size(self) -> tuple[int, int] | None:
        """(height, width) from which the result's size is derived if none is requested."""
        return None

    def default_frames(self, fps: float) -> int:  # noqa: ARG002
        """The length if none is requested: the trained one."""
        return DEFAULT_FRAMES

    def align(self, target: Target) -> Sources:  # noqa: ARG002
        """The model's inputs, in the target's size and length."""
        return Sources()


@dataclass(frozen=True)
class SizedByVideo(Loaded):
    """A clip, which determines size and length if none are requested."""

    video: Clip

    def source_size(self) -> tuple[int, int]:
        return self.video.size

    def default_frames(self, fps: float) -> int:
        """As long as the clip allows, at most the trained length."""
        available = available_frames(at_rate(self.video, fps), fps)
        return min(DEFAULT_FRAMES, floor_frames(available))


@dataclass(frozen=True)
class SizedByReference(Loaded):
    """An optional reference image, which determines the size if none is requested."""

    reference: Clip | None

    def source_size(self) -> tuple[int, int] | None:
        return None if self.reference is None else self.reference.size


def load_reference(source: Source | Clip | None) -> Clip | None:
    """Read the reference image, if there is one."""
    return None if source is None else load_picture("reference image", source)


def at_rate(clip: Clip, fps: float) -> Clip:
    """`clip` with a frame rate: frames in memory have none, so they get the target's."""
    return replace(clip, fps=clip.fps or fps)


def align_video(
    clip: Clip, target: Target, name: str, *, keep_lines: bool = False
) -> tuple[Tensor, tuple[str, ...]]:
    """A clip aligned with the target, [1, 3, F, H, W] in [-1, 1], and notes on what changed."""
    aligned = align_clip(
        at_rate(clip, target.fps),
        height=target.height,
        width=target.width,
        frames=target.frames,
        fps=target.fps,
        short=target.short,
        repeat_by=target.repeat_by,
        keep_lines=keep_lines,
    )
    notes = tuple(f"{name}: {line}" for line in aligned.report.lines())
    return to_model_range(aligned.frames), told(name, clip) + notes


def align_reference(
    reference: Clip | None, target: Target
) -> tuple[Tensor | None, tuple[str, ...]]:
    """A reference image [1, 3, 1, H, W] in [-1, 1], and notes on what changed."""
    if reference is None:
        return None, ()
    size = (target.height, target.width)
    name = "The reference image"
    notes = told(name, reference) + crop_note(name, reference.frames[0], size)
    return to_model_range(resize_cover(reference.frames, *size)), notes


def told(name: str, source: Clip | Masks) -> tuple[str, ...]:
    """Notes for the user on what was changed when reading a source."""
    return tuple(f"{name}: {note}" for note in source.notes)


def crop_note(name: str, picture_HWC: Tensor, size: tuple[int, int]) -> tuple[str, ...]:
    """A note for the user on what is cropped when an image is scaled to cover a size."""
    crop = cover_crop((picture_HWC.shape[0], picture_HWC.shape[1]), size)
    if crop.cropped_fraction < 0.005:
        return ()
    return (f"{name} is cropped to {size[0]} x {size[1]}: {crop.cropped_fraction:.0%} cut off.",)


def batched(mask_FHW: Tensor) -> Tensor:
    """The mask as the model's input, [1, 1, F, H, W]."""
    return mask_FHW.unsqueeze(0).unsqueeze(0)
