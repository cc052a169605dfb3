"""Converts drawn images to pixels."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def drawn_pixels(picture: Image.Image, *, scale: int = 1) -> Tensor:
    """An RGB image as float32 [1, height, width, 3] in [0, 1], downscaled by `scale` first.

    PIL draws lines without antialiasing; drawing larger and downscaling smooths them.
    """
    if scale > 1:
        picture = picture.resize(
            (picture.width // scale, picture.height // scale), Image.Resampling.BOX
        )
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(1, picture.height, picture.width, 3).to(torch.float32).div_(255)
