"""Scales images and masks to cover a size, and validates their values.

Images and clips are float [F, H, W, 3] in [0, 1]; masks are float [F, H, W] in [0, 1],
1 = generate.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..models.geometry import cover_crop

#: Mask values from here on become 1 (generate): 128 of 255 is white, 127 is black.
MASK_THRESHOLD = 0.5


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
    """Scale [F, H, W, C] to cover `height` x `width`, antialiased, and center-crop.

    A clip that already has this size is returned unchanged. Frames are scaled one by one, so that a
    long clip of large frames is not copied as a whole.
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


def cover_mask(mask_FHW: Tensor, height: int, width: int) -> Tensor:
    """Scale masks like `resize_cover`, but nearest-neighbour, so that they match their images."""
    crop = cover_crop((mask_FHW.shape[1], mask_FHW.shape[2]), (height, width))
    resized = F.interpolate(mask_FHW[:, None], size=crop.resized, mode="nearest-exact")[:, 0]
    return resized[:, crop.top : crop.top + height, crop.left : crop.left + width]


def nothing_left(source: tuple[int, int], size: tuple[int, int]) -> InputError:
    """The error for a mask that became empty when scaled from `source` to `size`."""
    return InputError(
        f"Nothing of the mask is left after bringing {source[1]} x {source[0]} to {size[1]} x "
        f"{size[0]}: its white part is in the cropped border, or smaller than a pixel. Use a size "
        "nearer to the source's aspect, or a larger mask."
    )


def _check_values(name: str, values: Tensor) -> None:
    if not values.dtype.is_floating_point:
        raise InputError(
            f"{name} is {values.dtype}; it must be floating point in [0, 1]: divide uint8 by 255."
        )
    low, high = (float(value) for value in torch.aminmax(values))  # NaN propagates
    if math.isnan(low) or math.isnan(high):
        raise InputError(f"{name} contains NaN (not a number); its source is damaged.")
    if low < 0 or high > 1:
        raise InputError(
            f"{name} has values from {low:g} to {high:g}; they must be within [0, 1]. Scale or "
            "clamp them first."
        )
