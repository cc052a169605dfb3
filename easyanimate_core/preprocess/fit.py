"""The sizes that a frame goes through: source, detector, result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media import resize_cover
from ..media.writer import to_bytes


@dataclass(frozen=True)
class Fit:
    """A source of `source` (height, width) is detected with the short side `resolution`.

    The aspect is kept: the picture is scaled, then its right and lower edges are repeated up to
    multiples of `multiple`. What was added is cut off again, and the map is brought to `size` by
    the one rule of `media` (cover, and crop the centre).
    """

    source: tuple[int, int]
    size: tuple[int, int]
    resolution: int
    multiple: int

    @property
    def scaled(self) -> tuple[int, int]:
        """(height, width) of the picture as the detector sees it, without what is added."""
        height, width = self.source
        scale = self.resolution / min(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def to_detector(self, frame: Tensor) -> np.ndarray[Any, Any]:
        """A frame [H, W, 3] in [0, 1] as bytes of the detector's size."""
        import cv2

        pixels = to_bytes(frame)
        height, width = self.scaled
        if (height, width) != self.source:
            larger = height > self.source[0]
            method = cv2.INTER_LANCZOS4 if larger else cv2.INTER_AREA
            pixels = cv2.resize(pixels, (width, height), interpolation=method)
        return np.pad(
            pixels, ((0, -height % self.multiple), (0, -width % self.multiple), (0, 0)), mode="edge"
        )

    def cut(self, found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What was found without what was added; [H, W] or [H, W, 3]."""
        height, width = self.scaled
        return found[:height, :width]

    def to_result(self, found: np.ndarray[Any, Any]) -> Tensor:
        """A map of bytes, [h, w] or [h, w, 3], as [height, width, 3] in [0, 1]."""
        pixels = torch.from_numpy(np.array(found)).to(torch.float32).div_(255)
        if pixels.ndim == 2:
            pixels = pixels[..., None].expand(-1, -1, 3)
        return resize_cover(pixels[None], *self.size)[0]
