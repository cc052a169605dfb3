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
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..geometry import check_frames, check_size, cover_crop, floor_frames
from .lines import ground_of_lines, resize_lines
from .reader import MASK_THRESHOLD, Clip


@dataclass(frozen=True)
class AlignmentReport:
    """What alignment did to a clip. Sizes are (height, width), rates frames per second.

    `cropped_fraction` is the share of the scaled picture's area outside the target. The counts are
    frames: left out or shown again to change the rate, cut after the last one used, and copies of
    the last frame appended. `kept_lines`: a drawing was scaled so that its thin lines stay.
    """

    source_size: tuple[int, int]
    source_fps: float
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
        rate = f"from {self.source_fps:g} to {self.fps:g} frames per second"
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


def check_pixels(name: str, pixels: Tensor) -> None:
    """Raise `InputError` unless `pixels` is float [F, H, W, 3] in [0, 1], F >= 1, without NaN."""
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise InputError(
            f"{name} has the shape {tuple(pixels.shape)}; it must be [frames, height, width, 3]."
        )
    _check_values(name, pixels)


def check_mask(name: str, mask: Tensor) -> None:
    """Raise `InputError` unless `mask` is float [F, H, W] in [0, 1], F >= 1, without NaN."""
    if mask.ndim != 3 or 0 in mask.shape:
        raise InputError(
            f"{name} has the shape {tuple(mask.shape)}; it must be [frames, height, width]."
        )
    _check_values(name, mask)


def resize_cover(frames: Tensor, height: int, width: int) -> Tensor:
    """Scale [F, H, W, C] to cover `height` x `width`, antialiased, and crop the centre.

    The same size is returned untouched. Frames are done one by one: a long clip of a large source
    needs no second copy of itself.
    """
    crop = cover_crop((frames.shape[1], frames.shape[2]), (height, width))
    if crop.resized == tuple(frames.shape[1:3]):
        return frames[:, crop.top : crop.top + height, crop.left : crop.left + width]
    result = frames.new_empty(frames.shape[0], height, width, frames.shape[3])
    for source, target in zip(frames, result, strict=True):
        resized = F.interpolate(
            source.movedim(-1, 0)[None], size=crop.resized, mode="bilinear", antialias=True
        )[0].movedim(0, -1)
        target.copy_(resized[crop.top : crop.top + height, crop.left : crop.left + width])
    return result.clamp_(0, 1)  # the filter's weights sum to 1 only up to rounding


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
    length = len(clip.frames)
    available = available_frames(clip, fps)
    if frames is None:
        frames = floor_frames(available)
    picked = pick_frames(clip, frames=frames, fps=fps, short=short)
    indices = picked[: min(frames, available)]
    repeated_at_end = max(0, frames - available)
    size = (clip.frames.shape[1], clip.frames.shape[2])
    num_shown = len(set(indices))
    consecutive = picked == list(range(frames))  # then a view does, without a copy
    source = clip.frames[:frames] if consecutive else clip.frames[picked]
    scaled = keep_lines and cover_crop(size, (height, width)).resized != size
    ground = ground_of_lines(source, height, width) if scaled else None
    report = AlignmentReport(
        source_size=size,
        source_fps=clip.fps,
        source_frames=length,
        size=(height, width),
        fps=fps,
        frames=frames,
        cropped_fraction=cover_crop(size, (height, width)).cropped_fraction,
        dropped_by_rate=indices[-1] + 1 - num_shown,
        repeated_by_rate=len(indices) - num_shown,
        dropped_at_end=length - 1 - indices[-1],
        repeated_at_end=repeated_at_end,
        kept_lines=ground is not None,
    )
    if ground is None:
        return AlignedClip(resize_cover(source, height, width), report)
    return AlignedClip(resize_lines(source, height, width, ground), report)


def available_frames(clip: Clip, fps: float) -> int:
    """How many frames at `fps` have a source frame of their own moment."""
    length, step = len(clip.frames), clip.fps / fps
    count = int((length - 0.5) / step) + 2
    while _nearest(count - 1, step) > length - 1:
        count -= 1
    return count


def pick_frames(
    clip: Clip, *, frames: int, fps: float, short: Literal["refuse", "repeat"] = "refuse"
) -> list[int]:
    """Numbers of the source frames that `align_clip` shows, one per target frame."""
    check_frames(frames)
    available = available_frames(clip, fps)
    if frames > available and short == "refuse":
        raise InputError(
            f"The clip gives {available} frames at {fps:g} frames per second ({len(clip.frames)} "
            f"at {clip.fps:g}); {frames} were asked for. Use {floor_frames(available)} frames or "
            "fewer, a longer clip, or repeat its last frame (short='repeat')."
        )
    indices = [_nearest(i, clip.fps / fps) for i in range(min(frames, available))]
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
    crop = cover_crop((mask.shape[1], mask.shape[2]), (height, width))
    binary = (mask >= MASK_THRESHOLD).to(torch.float32)
    if not bool(binary.any()):
        raise InputError(
            "The mask is empty: nothing is to be generated. Paint what is to change in white (1)."
        )
    resized = F.interpolate(binary[:, None], size=crop.resized, mode="nearest-exact")[:, 0]
    aligned = resized[:, crop.top : crop.top + height, crop.left : crop.left + width]
    if not bool(aligned.any()):
        raise InputError(
            f"Nothing of the mask is left after bringing {mask.shape[2]} x {mask.shape[1]} to "
            f"{width} x {height}: its white part is in the cropped border, or smaller than a "
            "pixel. Use a size nearer to the source's aspect, or a larger mask."
        )
    return aligned.expand(frames, -1, -1).contiguous()


def _check_values(name: str, values: Tensor) -> None:
    if not values.dtype.is_floating_point:
        raise InputError(
            f"{name} is {values.dtype}; it must be floating point in [0, 1]: divide bytes by 255."
        )
    low, high = (float(value) for value in torch.aminmax(values))  # NaN comes through
    if math.isnan(low) or math.isnan(high):
        raise InputError(f"{name} contains NaN (not a number); its source is damaged.")
    if low < 0 or high > 1:
        raise InputError(
            f"{name} has values from {low:g} to {high:g}; they must be within [0, 1]. Scale or "
            "clamp them first."
        )


def _nearest(index: int, step: float) -> int:
    """Source frame nearest to target frame `index`; `step` source frames pass per target frame.

    A tie goes to the earlier frame; the margin absorbs rounding in `index * step`.
    """
    return math.ceil(index * step - 0.5 - 1e-6)


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
