"""A picture as the patches that Qwen2-VL's vision tower reads.

Shapes: H, W pixels; h, w rows and columns of merged patches; N patches; D values of a patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

PATCH, MERGE, TIMES = 14, 2, 2
#: Side of the pixels behind one token.
_CELL = PATCH * MERGE
_FEWEST, _MOST = 4, 256  # tokens
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Patches:
    """`values` [N, D] and `grid` [1, 3], rows and columns of patches at one time."""

    values: Tensor
    grid: Tensor

    @property
    def num_tokens(self) -> int:
        """How many tokens of the chat they take: four patches become one."""
        return len(self.values) // MERGE**2


def picture_patches(picture_HWC: Tensor) -> Patches:
    """Patches of a picture in [0, 1], which is scaled to 4 to 256 tokens."""
    if picture_HWC.ndim != 3 or picture_HWC.shape[2] != 3 or 0 in picture_HWC.shape:
        raise InputError(
            f"The picture has the shape {tuple(picture_HWC.shape)}; it must be [height, width, 3]."
        )
    rows, columns = _cells(picture_HWC.shape[0], picture_HWC.shape[1])
    pixels_1CHW = picture_HWC.detach().to("cpu", torch.float32).permute(2, 0, 1).unsqueeze(0)
    size = (rows * _CELL, columns * _CELL)
    if pixels_1CHW.shape[2:] != size:
        pixels_1CHW = F.interpolate(pixels_1CHW, size, mode="bicubic", antialias=True)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
    scaled = (pixels_1CHW.clamp(0, 1) - mean) / std
    # A still is shown at both times of a patch. The four patches of a token follow each other.
    cut = scaled.reshape(1, 3, rows, MERGE, PATCH, columns, MERGE, PATCH)
    cut = cut.permute(2, 5, 3, 6, 1, 0, 4, 7).expand(-1, -1, -1, -1, -1, TIMES, -1, -1)
    values = cut.reshape(rows * columns * MERGE**2, 3 * TIMES * PATCH**2)
    return Patches(values, torch.tensor([[1, rows * MERGE, columns * MERGE]]))


def _cells(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tokens: the picture's aspect ratio, as far as the limits allow."""
    area = height * width / _CELL**2
    scale = math.sqrt(min(max(area, _FEWEST), _MOST) / area) / _CELL
    rows = min(max(round(height * scale), 1), _MOST)
    columns = min(max(round(width * scale), 1), _MOST // rows)
    return min(rows, _MOST // columns), columns
