"""Scores that need no network.

Frames are [B, F, 3, H, W] in [0, 1]: B clips of F frames. Scores are [B].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: The brightness of red, green and blue (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)
#: Keeps the gradient of a root finite where nothing changes.
_LEAST = 1e-6


def saturation(frames_BF3HW: Tensor) -> Tensor:
    """The mean distance between the strongest and the weakest channel: 0 grey, 1 pure colours."""
    chroma = frames_BF3HW.amax(2) - frames_BF3HW.amin(2)
    return chroma.mean((1, 2, 3))


def sharpness(frames_BF3HW: Tensor) -> Tensor:
    """The mean slope of brightness between neighbouring pixels: 0 flat, 0.1 rich in detail."""
    weights = frames_BF3HW.new_tensor(_LUMA).view(3, 1, 1)
    luma = (frames_BF3HW * weights).sum(2)
    down, right = luma.diff(dim=2)[..., :-1], luma.diff(dim=3)[:, :, :-1]
    return (down.square() + right.square() + _LEAST).sqrt().mean((1, 2, 3))


def steadiness(frames_BF3HW: Tensor) -> Tensor:
    """1 less the mean change of the change between frames: 1 still or evenly moving, 0 flicker.

    Clips of fewer than three frames are steady.
    """
    if frames_BF3HW.shape[1] < 3:
        return frames_BF3HW.new_ones(len(frames_BF3HW)) + 0 * frames_BF3HW.sum((1, 2, 3, 4))
    changes = frames_BF3HW.diff(n=2, dim=1)
    return 1 - (changes.square() + _LEAST).sqrt().mean((1, 2, 3, 4))


def likeness(frames_BF3HW: Tensor, reference_3HW: Tensor) -> Tensor:
    """1 less the root of the mean squared error against a picture, scaled to the frames' size."""
    wanted = F.interpolate(
        reference_3HW[None].to(frames_BF3HW), frames_BF3HW.shape[3:], mode="bicubic", antialias=True
    ).clamp(0, 1)
    errors = (frames_BF3HW - wanted[:, None]).square().mean((1, 2, 3, 4))
    return 1 - torch.sqrt(errors + _LEAST)
