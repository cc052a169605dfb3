"""Aligns images, clips and masks to the size and length of a video.

Images and clips are float [F, H, W, 3] in [0, 1]; masks are float [F, H, W] in [0, 1],
1 = generate. A source is scaled to cover the target and center-cropped; a clip is resampled by
taking the source frame nearest in time. An `AlignmentReport` lists the changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError, counted, there_are
from ..models.geometry import check_frames, check_size, cover_crop, floor_frames
from .clip import Clip
from .lines import ground_of_lines, resize_lines
from .scale import MASK_THRESHOLD, check_mask, check_pixels, cover_mask, nothing_left, resize_cover

#: How a clip that is too short is repeated: the option of `align_clip` and of the command line.
REPEAT_BY = "short: repeat"


@dataclass(frozen=True)
class AlignmentReport:
    """What alignment did to a clip. Sizes are (height, width), rates frames per second.

    `cropped_fraction` is the share of the scaled frame's area outside the target. The counts are
    frames: dropped or repeated to change the rate, cut off at the end, and copies of the last frame
    appended. `kept_lines`: a line drawing was scaled without weakening its thin lines.
    """

    source_size: tuple[int, int]
    source_fps: float
    source_is_steady: bool
    source_frames: int
    size: tuple[int, int]
    fps: float
    frames: int
    cropped_fraction: float
    dropped_by_rate: int
    repeated_by_rate: int
    dropped_at_end: int
    repeated_at_end: int
    kept_lines: bool = False

    def lines(self) -> list[str]:
        """One sentence per change; empty if the clip was used unchanged."""
        sentences = []
        (height, width), (source_height, source_width) = self.size, self.source_size
        if self.size != self.source_size:
            crop = f"{self.cropped_fraction:.0%} of the picture cropped at the edges"
            sentences.append(
                f"Scaled from {source_width} x {source_height} to {width} x {height}, "
                f"{crop if self.cropped_fraction else 'nothing cropped'}."
            )
        if self.kept_lines:
            sentences.append("It is a drawing of thin lines, which were kept at full strength.")
        varying = "" if self.source_is_steady else "a variable rate, on average "
        rate = f"from {varying}{self.source_fps:g} to {self.fps:g} frames per second"
        if self.dropped_by_rate:
            sentences.append(f"Resampled {rate}: {_frames(self.dropped_by_rate)} dropped.")
        if self.repeated_by_rate:
            sentences.append(
                f"Resampled {rate}: {_frames(self.repeated_by_rate)} repeated, because the source "
                "is slower than the target."
            )
        if self.source_fps != self.fps and not self.dropped_by_rate + self.repeated_by_rate:
            sentences.append(f"Retimed {rate}; every frame was used once.")
        if self.dropped_at_end:
            sentences.append(f"{_frames(self.dropped_at_end)} cut at the end of the source.")
        if self.repeated_at_end:
            sentences.append(
                "The clip is too short: its last frame was repeated "
                f"{counted(self.repeated_at_end, 'time')}."
            )
        return sentences


@dataclass(frozen=True)
class AlignedClip:
    """`frames` [F, H, W, 3] at the requested size and rate, F = 4n + 1, and what was changed."""

    frames: Tensor
    report: AlignmentReport


def align_clip(
    clip: Clip,
    *,
    height: int,
    width: int,
    frames: int | None,
    fps: float,
    short: Literal["refuse", "repeat"] = "refuse",
    repeat_by: str = REPEAT_BY,
    keep_lines: bool = False,
) -> AlignedClip:
    """The first `frames` (4n + 1) frames of `clip` at `fps` and `height` x `width`.

    Target frame i is the source frame nearest to i / fps seconds; frames are never blended.
    `frames=None` takes the largest available 4n + 1. A clip with fewer than `frames` is rejected,
    or with `short="repeat"` padded with its last frame; `repeat_by` is what the user sets for that,
    in messages. `keep_lines` scales drawings of thin lines without averaging the lines away, as
    control videos require.
    """
    check_pixels("The clip", clip.frames)
    check_size(height, width)
    for name, value in (("fps", fps), ("the clip's fps", clip.fps)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; it must be a positive number.")
    if short not in ("refuse", "repeat"):
        raise InputError(f"short is {short!r}; it must be 'refuse' or 'repeat'.")
    length = len(clip.times.starts)
    available = available_frames(clip, fps)
    if frames is None:
        frames = floor_frames(available)
    picked = pick_frames(clip, frames=frames, fps=fps, short=short, repeat_by=repeat_by)
    indices = picked[: min(frames, available)]
    repeated_at_end = max(0, frames - available)
    crop = cover_crop(clip.size, (height, width))
    num_shown = len(set(indices))
    rows = clip.rows(picked)
    consecutive = rows == list(range(frames))  # then a view suffices
    source = clip.frames[:frames] if consecutive else clip.frames[rows]
    is_source = clip.source_size in (None, tuple(clip.frames.shape[1:3]))
    scaled = keep_lines and is_source and crop.resized != clip.size
    ground = ground_of_lines(source, height, width) if scaled else None
    report = AlignmentReport(
        source_size=clip.size,
        source_fps=clip.fps,
        source_is_steady=clip.times.is_steady,
        source_frames=length,
        size=(height, width),
        fps=fps,
        frames=frames,
        cropped_fraction=crop.cropped_fraction,
        dropped_by_rate=indices[-1] + 1 - num_shown,
        repeated_by_rate=len(indices) - num_shown,
        dropped_at_end=length - 1 - indices[-1],
        repeated_at_end=repeated_at_end,
        kept_lines=ground is not None or clip.kept_lines,
    )
    if ground is None:
        return AlignedClip(resize_cover(source, height, width), report)
    return AlignedClip(resize_lines(source, height, width, ground), report)


def available_frames(clip: Clip, fps: float) -> int:
    """Number of frames that the clip covers at `fps`."""
    return clip.times.count(fps)


def pick_frames(
    clip: Clip,
    *,
    frames: int,
    fps: float,
    short: Literal["refuse", "repeat"] = "refuse",
    repeat_by: str = REPEAT_BY,
) -> list[int]:
    """Indices of the source frames that `align_clip` uses, one per target frame."""
    check_frames(frames)
    available = available_frames(clip, fps)
    if frames > available and short == "refuse":
        raise InputError(
            f"The clip has {counted(available, 'frame')} at {fps:g} frames per second "
            f"({len(clip.times.starts)} at {clip.fps:g}); {frames} were requested. Use "
            f"{_at_most(floor_frames(available))}, a longer clip, or repeat its last frame "
            f"({repeat_by})."
        )
    indices = clip.times.pick(min(frames, available), fps)
    return indices + indices[-1:] * (frames - len(indices))


def align_mask(mask: Tensor, *, height: int, width: int, frames: int) -> Tensor:
    """Align `mask` [1 or frames, H, W] to a binary mask [frames, height, width].

    Values of 0.5 or more become 1 (generate). A single mask applies to all frames. Scaling and
    cropping match `resize_cover`, with nearest-neighbour sampling, so that a mask stays aligned
    with its image.
    """
    check_mask("The mask", mask)
    check_size(height, width)
    check_frames(frames)
    if len(mask) not in (1, frames):
        raise InputError(
            f"{there_are(len(mask), 'mask').capitalize()} for {_frames(frames)}; pass one for all "
            "frames or one per frame."
        )
    binary = (mask >= MASK_THRESHOLD).to(torch.float32)
    if not bool(binary.any()):
        raise InputError(
            "The mask is empty: nothing would be generated. Paint what should change in white (1)."
        )
    aligned = cover_mask(binary, height, width)
    if not bool(aligned.any()):
        raise nothing_left((mask.shape[1], mask.shape[2]), (height, width))
    return aligned.expand(frames, -1, -1).contiguous()


def _frames(count: int) -> str:
    return counted(count, "frame")


def _at_most(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames or fewer"
