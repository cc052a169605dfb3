"""Scales drawings of thin lines, such as edges and skeletons, without averaging the lines away.

Averaging a one-pixel line down to a third leaves a third of its brightness, and a control video of
such lines loses two thirds of its effect. Here each output pixel is the strongest source pixel that
falls on it: the one farthest from the background.
Shapes: F frames, H height, W width, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.geometry import cover_crop

#: Black background with light lines, white background with dark lines.
_GROUNDS = (0.0, 1.0)
#: Minimum share of background in a drawing; pixels closer than `_NEAR` to its level count as such.
_GROUND_SHARE, _NEAR = 0.6, 0.15
#: Pixels farther than `_DRAWN` from the background are lines, `_THIN_SHARE` of them thin.
_DRAWN, _THIN_SHARE = 0.5, 0.9
_LOOKED_AT = 8


def resize_lines(frames: Tensor, height: int, width: int, ground: float = 0.0) -> Tensor:
    """Scale [F, H, W, C] to cover `height` x `width` and center-crop, lines at full strength.

    Positions match `resize_cover`. A one-pixel line stays one pixel wide when scaled down. `ground`
    is the level of the background.
    """
    crop = cover_crop((frames.shape[1], frames.shape[2]), (height, width))
    rows = slice(crop.top, crop.top + height)
    columns = slice(crop.left, crop.left + width)
    if crop.resized == tuple(frames.shape[1:3]):
        return frames[:, rows, columns]
    result = frames.new_empty(frames.shape[0], height, width, frames.shape[3])
    for source, target in zip(frames, result, strict=True):
        tall = _strongest(source, crop.resized[0], ground)
        wide = _strongest(tall.transpose(0, 1), crop.resized[1], ground).transpose(0, 1)
        target.copy_(wide[rows, columns])
    return result


def ground_of_lines(frames: Tensor, height: int, width: int) -> float | None:
    """Background level of a drawing that averaging to `height` x `width` would weaken, or None.

    A drawing is mostly one level, black or white, with lines that are thin relative to the scale.
    Depth maps, segmentations and photographs have filled areas and do not qualify.
    """
    look = DrawingLook((frames.shape[1], frames.shape[2]), (height, width))
    for frame in frames[:: look_step(len(frames))]:
        look.add(frame)
    return look.ground()


def look_step(num_frames: int) -> int:
    """Step between the sampled frames."""
    return max(1, math.ceil(num_frames / _LOOKED_AT))


class DrawingLook:
    """`ground_of_lines` frame by frame, for scaling from `source` to `size`, (height, width)."""

    def __init__(self, source: tuple[int, int], size: tuple[int, int]) -> None:
        resized = cover_crop(source, size).resized
        scale = max(1.0, source[0] / resized[0], source[1] / resized[1])
        self._window = 2 * math.ceil(scale) + 1
        self._pixels = 0
        self._near = dict.fromkeys(_GROUNDS, 0.0)
        self._drawn = dict.fromkeys(_GROUNDS, 0.0)
        self._thick = dict.fromkeys(_GROUNDS, 0.0)

    def add(self, frame_HWC: Tensor) -> None:
        """Add a frame, float in [0, 1]."""
        self._pixels += frame_HWC.shape[0] * frame_HWC.shape[1]
        for ground in _GROUNDS:
            distance_11HW = (frame_HWC.float() - ground).abs().amax(dim=-1)[None, None]
            self._near[ground] += float((distance_11HW < _NEAR).sum())
            if self._near[ground] < _GROUND_SHARE * self._pixels:
                continue  # probably a photograph: skip the expensive part
            drawn = (distance_11HW > _DRAWN).float()
            inside = -F.max_pool2d(-drawn, self._window, stride=1, padding=self._window // 2)
            self._drawn[ground] += float(drawn.sum())
            self._thick[ground] += float(inside.sum())

    def ground(self) -> float | None:
        """Background level of the frames; None if they are not a drawing of thin lines."""
        for ground in _GROUNDS:
            num_drawn = self._drawn[ground]
            is_ground = self._near[ground] >= _GROUND_SHARE * self._pixels
            is_thin = self._thick[ground] <= (1 - _THIN_SHARE) * num_drawn
            if is_ground and num_drawn > 0 and is_thin:
                return ground
        return None


def _strongest(picture_HWC: Tensor, height: int, ground: float) -> Tensor:
    """Scale `picture` to `height` rows, keeping the strongest of the pixels that coincide."""
    first, last = _places(picture_HWC.shape[0], height, picture_HWC.device)
    result = picture_HWC[first]
    for offset in range(1, int((last - first).max()) + 1):
        other = picture_HWC[torch.minimum(first + offset, last)]
        stronger = _strength(other, ground) > _strength(result, ground)
        result = torch.where(stronger, other, result)
    return result


def _strength(picture_HWC: Tensor, ground: float) -> Tensor:
    return (picture_HWC - ground).abs().sum(dim=-1, keepdim=True)


def _places(length: int, target: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """First and last source index whose centre falls into each target index.

    When scaling up, both are the nearest source index.
    """
    index = torch.arange(target, device=device)
    if target >= length:
        nearest = ((2 * index + 1) * length) // (2 * target)
        return nearest, nearest
    bounds = torch.arange(target + 1, device=device) * 2 * length - target
    starts = -(-bounds // (2 * target))
    return starts[:-1], starts[1:] - 1
