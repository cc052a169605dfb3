"""Loads and validates media given as a file or as pixels in memory."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError, counted
from .clip import Clip, Fit, Masks
from .reader import read_masks, read_still, read_video
from .scale import check_mask, check_pixels

#: A file, or pixels in memory.
Source = str | os.PathLike[str] | Tensor


def load_image(name: str, source: Source | Clip) -> Clip:
    """Load and validate an image, or known frames, [F, H, W, 3] in [0, 1]."""
    if isinstance(source, Tensor):
        source = Clip(source, 0.0)
    clip = source if isinstance(source, Clip) else read_still(source)
    check_pixels(name, clip.frames)
    return replace(clip, frames=_plain(clip.frames))


def load_picture(name: str, source: Source | Clip) -> Clip:
    """`load_image`, for exactly one frame."""
    clip = load_image(name, source)
    if len(clip.frames) != 1:
        raise InputError(f"The {name} has {counted(len(clip.frames), 'frame')}; give one picture.")
    return clip


def load_clip(
    name: str,
    source: Source | Clip,
    max_seconds: float | None,
    fit: Fit | None,
    *,
    keep_lines: bool = False,
) -> Clip:
    """Load and validate a clip. Frames in memory without a rate get the target's rate.

    With `keep_lines`, `fit` scales drawings of thin lines at full strength.
    """
    if fit is not None:
        fit = replace(fit, keep_lines=keep_lines)
    if isinstance(source, Tensor):
        source = Clip(source, fps=0.0)
    clip = (
        source if isinstance(source, Clip) else read_video(source, max_seconds=max_seconds, fit=fit)
    )
    check_pixels(name, clip.frames)
    if not (math.isfinite(clip.fps) and clip.fps >= 0):
        raise InputError(f"The {name}'s fps is {clip.fps}; it must be a positive number.")
    return replace(clip, frames=_plain(clip.frames))


def load_masks(source: Source | Masks, clip: Clip, fit: Fit | None) -> Masks:
    """Load and validate masks: one for all frames, one per frame of `clip`, or another number.

    A file is read no further than the clip's file has frames. If there is a mask for each of them,
    only those for frames in `clip` are kept.
    """
    num_read = len(clip.frames) if clip.timing is None else len(clip.timing.starts)
    if isinstance(source, Tensor):
        source = Masks(source)
    if not isinstance(source, Masks):
        size = None if fit is None else fit.size_for(clip.size)
        source = read_masks(source, max_frames=num_read, size=size)
    check_mask("mask", source.frames)
    frames = source.frames
    if clip.numbers is not None and len(frames) == num_read:
        frames = frames[list(clip.numbers)]
    return replace(source, frames=_plain(frames))


def _plain(pixels: Tensor) -> Tensor:
    """Detached float32 on the CPU, as resizing expects."""
    return pixels.detach().to("cpu", torch.float32)
