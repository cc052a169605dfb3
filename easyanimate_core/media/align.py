"""The one rule that brings a picture, a clip or a mask to the size and length of a video.

Pictures and clips are float [F, H, W, 3] in [0, 1]; masks are float [F, H, W] in [0, 1],
1 = generate. A source is scaled to cover the target and its centre is cropped; a clip is resampled
by taking the source frame nearest in time. What a rule changed is said in an `AlignmentReport`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..models.geometry import check_frames, check_size, cover_crop, floor_frames
from .clip import Clip
from .lines import ground_of_lines, resize_lines
from .scale import MASK_THRESHOLD, check_mask, check_pixels, cover_mask, nothing_left, resize_cover


@dataclass(frozen=True)
class AlignmentReport:
    """What alignment did to a clip. Sizes are (height, width), rates frames per second.

    `cropped_fraction` is the share of the scaled picture's area outside the target. The counts are
    frames: left out or shown again to change the rate, cut after the last one used, and copies of
    the last frame appended. `kept_lines`: a drawing was scaled so that its thin lines stay.
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
        """One sentence per change; empty when the clip was used as it is."""
        sentences = []
        (height, width), (source_height, source_width) = self.size, self.source_size
        if self.size != self.source_size:
            crop = f"{self.cropped_fraction:.0%} of the picture cropped at the edges"
            sentences.append(
                f"Scaled from {source_width} x {source_height} to {width} x {height}, "
                f"{crop if self.cropped_fraction else 'nothing cropped'}."
            )
        if self.kept_lines:
            sentences.append("It is a drawing of thin lines; they were scaled at full strength.")
        varying = "" if self.source_is_steady else "a varying rate, on the average "
        rate = f"from {varying}{self.source_fps:g} to {self.fps:g} frames per second"
        if self.dropped_by_rate:
            sentences.append(f"Resampled {rate}: {_frames(self.dropped_by_rate)} left out.")
        if self.repeated_by_rate:
            sentences.append(
                f"Resampled {rate}: {_frames(self.repeated_by_rate)} repeated, because the source "
                "is slower than the target."
            )
        if self.source_fps != self.fps and not self.dropped_by_rate + self.repeated_by_rate:
            sentences.append(f"Read at another rate, {rate}; every frame was used once.")
        if self.dropped_at_end:
            sentences.append(f"{_frames(self.dropped_at_end)} cut at the end of the source.")
        if self.repeated_at_end:
            sentences.append(
                f"The clip is too short: its last frame was repeated {self.repeated_at_end} times."
            )
        return sentences


@dataclass(frozen=True)
class AlignedClip:
    """`frames` [F, H, W, 3] of the wanted size and rate, F = 4n + 1, and what was changed."""

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
    keep_lines: bool = False,
) -> AlignedClip:
    """The first `frames` (4n + 1) frames of `clip` at `fps` and `height` x `width`.

    Target frame i shows the source frame nearest to i / fps seconds; frames are never blended.
    `frames` None takes the greatest 4n + 1 that the clip gives. A clip that gives fewer than
    `frames` is refused, or with `short="repeat"` continued by its last frame. With `keep_lines` a
    drawing of thin lines is scaled without averaging them away, as a control video has to be.
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
    picked = pick_frames(clip, frames=frames, fps=fps, short=short)
    indices = picked[: min(frames, available)]
    repeated_at_end = max(0, frames - available)
    crop = cover_crop(clip.size, (height, width))
    num_shown = len(set(indices))
    rows = clip.rows(picked)
    consecutive = rows == list(range(frames))  # then a view does, without a copy
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
    """How many frames at `fps` have a source frame of their own moment."""
    return clip.times.count(fps)


def pick_frames(
    clip: Clip, *, frames: int, fps: float, short: Literal["refuse", "repeat"] = "refuse"
) -> list[int]:
    """Numbers of the source frames that `align_clip` shows, one per target frame."""
    check_frames(frames)
    available = available_frames(clip, fps)
    if frames > available and short == "refuse":
        raise InputError(
            f"The clip gives {available} frames at {fps:g} frames per second "
            f"({len(clip.times.starts)} at {clip.fps:g}); {frames} were asked for. Use "
            f"{floor_frames(available)} frames or fewer, a longer clip, or repeat its last frame "
            "(short='repeat')."
        )
    indices = clip.times.pick(min(frames, available), fps)
    return indices + indices[-1:] * (frames - len(indices))


def align_mask(mask: Tensor, *, height: int, width: int, frames: int) -> Tensor:
    """`mask` [1 or frames, H, W] as [frames, height, width] of exact 0 and 1.

    A value of 0.5 or more is 1 (generate). One mask holds for all frames. Scale and crop follow
    the rule of `resize_cover`, by the nearest pixel, so that a mask stays on its picture.
    """
    check_mask("The mask", mask)
    check_size(height, width)
    check_frames(frames)
    if len(mask) not in (1, frames):
        raise InputError(
            f"There are {len(mask)} masks for {frames} frames; give one for all frames or one "
            "per frame."
        )
    binary = (mask >= MASK_THRESHOLD).to(torch.float32)
    if not bool(binary.any()):
        raise InputError(
            "The mask is empty: nothing is to be generated. Paint what is to change in white (1)."
        )
    aligned = cover_mask(binary, height, width)
    if not bool(aligned.any()):
        raise nothing_left((mask.shape[1], mask.shape[2]), (height, width))
    return aligned.expand(frames, -1, -1).contiguous()


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
