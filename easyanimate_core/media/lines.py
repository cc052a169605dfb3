"""Drawings of thin lines, such as edges and skeletons, at another size: no line is averaged away.

A line of one pixel that is scaled to a third by averaging keeps a third of its brightness, and a
control video of such lines says a third of what it should. Here every pixel of the result is the
strongest one of its place in the source: the one farthest from the ground that is drawn on.
Shapes: F frames, H height, W width, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.geometry import cover_crop

#: Black ground with light lines, white ground with dark ones.
_GROUNDS = (0.0, 1.0)
#: A drawing is this much ground at least, and pixels nearer to it than `_NEAR` are ground.
_GROUND_SHARE, _NEAR = 0.6, 0.15
#: Pixels farther from the ground than `_DRAWN` are lines; of them `_THIN_SHARE` lie in thin ones.
_DRAWN, _THIN_SHARE = 0.5, 0.9
_LOOKED_AT = 8


def resize_lines(frames: Tensor, height: int, width: int, ground: float = 0.0) -> Tensor:
    """Scale [F, H, W, C] to cover `height` x `width` and crop the centre, lines at full strength.

    The places are those of `resize_cover`. A line of one pixel stays one pixel wide where it is
    scaled down. `ground` is the level that is drawn on.
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
    """The ground of a drawing that scaling to `height` x `width` by averages would weaken.

    None for anything else. A drawing is mostly one level, black or white, and what is drawn is
    thin beside the scale. Depth, segmentation and photographs have areas and are none.
    """
    look = DrawingLook((frames.shape[1], frames.shape[2]), (height, width))
    for frame in frames[:: look_step(len(frames))]:
        look.add(frame)
    return look.ground()


def look_step(num_frames: int) -> int:
    """Of which frames some are looked at: every one of these."""
    return max(1, math.ceil(num_frames / _LOOKED_AT))


class DrawingLook:
    """`ground_of_lines` frame by frame, for frames of a (height, width) to be scaled to a size."""

    def __init__(self, source: tuple[int, int], size: tuple[int, int]) -> None:
        resized = cover_crop(source, size).resized
        scale = max(1.0, source[0] / resized[0], source[1] / resized[1])
        self._window = 2 * math.ceil(scale) + 1
        self._pixels = 0
        self._near = dict.fromkeys(_GROUNDS, 0.0)
        self._drawn = dict.fromkeys(_GROUNDS, 0.0)
        self._thick = dict.fromkeys(_GROUNDS, 0.0)

    def add(self, frame_HWC: Tensor) -> None:
        """Look at a frame, float in [0, 1]."""
        self._pixels += frame_HWC.shape[0] * frame_HWC.shape[1]
        for ground in _GROUNDS:
            distance_11HW = (frame_HWC.float() - ground).abs().amax(dim=-1)[None, None]
            self._near[ground] += float((distance_11HW < _NEAR).sum())
            if self._near[ground] < _GROUND_SHARE * self._pixels:
                continue  # a photograph, most of all: the rest would only cost time
            drawn = (distance_11HW > _DRAWN).float()
            inside = -F.max_pool2d(-drawn, self._window, stride=1, padding=self._window // 2)
            self._drawn[ground] += float(drawn.sum())
            self._thick[ground] += float(inside.sum())

    def ground(self) -> float | None:
        """What the frames are drawn on; None where they are no drawing of thin lines."""
        for ground in _GROUNDS:
            num_drawn = self._drawn[ground]
            is_ground = self._near[ground] >= _GROUND_SHARE * self._pixels
            is_thin = self._thick[ground] <= (1 - _THIN_SHARE) * num_drawn
            if is_ground and num_drawn > 0 and is_thin:
                return ground
        return None


def _strongest(picture_HWC: Tensor, height: int, ground: float) -> Tensor:
    """`picture` with `height` rows: of the pixels that fall on one place, the strongest."""
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
    """First and last source index of each target index: those whose centres fall into it.

    Where there are fewer source pixels than places, the nearest one.
    """
    index = torch.arange(target, device=device)
    if target >= length:
        nearest = ((2 * index + 1) * length) // (2 * target)
        return nearest, nearest
    bounds = torch.arange(target + 1, device=device) * 2 * length - target
    starts = -(-bounds // (2 * target))
    return starts[:-1], starts[1:] - 1
