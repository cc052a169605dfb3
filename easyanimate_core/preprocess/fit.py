"""The sizes of a frame on its way from source to detector to result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media import resize_cover, resize_lines
from ..media.writer import to_bytes
from ..models.geometry import cover_crop
from .detection import NETWORK_SIDE, Detection


@dataclass(frozen=True)
class Fit:
    """Detects a source of size `source` (height, width) at `scaled`, with the same aspect ratio.

    The image is scaled, then padded on the right and bottom to multiples of `multiple` by repeating
    its edges. The padding is cropped from the map, which is then scaled to cover `size` and
    center-cropped as in `media`; with `keep_lines` without averaging lines away. `enlarged` is the
    upscaling factor if the resolution was automatic, else 1.
    """

    source: tuple[int, int]
    scaled: tuple[int, int]
    size: tuple[int, int]
    multiple: int
    keep_lines: bool
    enlarged: float = 1.0

    def to_detector(self, frame: Tensor) -> np.ndarray[Any, Any]:
        """Convert a frame [H, W, 3] in [0, 1] to uint8 at the detector's size."""
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
        """Crop the padding from a map [H, W] or [H, W, 3]."""
        height, width = self.scaled
        return found[:height, :width]

    def to_result(self, found: np.ndarray[Any, Any]) -> Tensor:
        """Convert a uint8 map, [h, w] or [h, w, 3], to [height, width, 3] in [0, 1]."""
        pixels = torch.from_numpy(np.array(found)).to(torch.float32).div_(255)
        if pixels.ndim == 2:
            pixels = pixels[..., None].expand(-1, -1, 3)
        resize = resize_lines if self.keep_lines else resize_cover
        return resize(pixels[None], *self.size)[0]


def fit_for(detection: Detection, source: tuple[int, int], size: tuple[int, int]) -> Fit:
    """The `Fit` for a source of size `source` (height, width) and a result of `size`."""
    facts = detection.facts
    enlarged = 1.0
    if detection.resolution is None and facts.draws == "lines":
        scaled = cover_crop(source, size).resized
        enlarged = max(1.0, scaled[0] / source[0])
    else:
        scale = (detection.resolution or NETWORK_SIDE) / min(source)
        scaled = max(1, round(source[0] * scale)), max(1, round(source[1] * scale))
    keep_lines = facts.draws != "areas"
    return Fit(source, scaled, size, facts.multiple, keep_lines=keep_lines, enlarged=enlarged)
