"""Drawn pictures as pixels."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def drawn_pixels(picture: Image.Image, *, scale: int = 1) -> Tensor:
    """An RGB picture as [1, height, width, 3] float32 in [0, 1], made `scale` times smaller first.

    Lines of PIL have hard edges; drawn large and made smaller they are smooth.
    """
    if scale > 1:
        picture = picture.resize(
            (picture.width // scale, picture.height // scale), Image.Resampling.BOX
        )
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(1, picture.height, picture.width, 3).to(torch.float32).div_(255)
