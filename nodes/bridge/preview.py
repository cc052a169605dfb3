"""Colours of live previews: how latents look, fitted to the VAE that decodes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SIDE = 64
_PICTURES = 8
_SCALES = (2, 4, 8, 16)


@dataclass(frozen=True)
class PreviewColours:
    """RGB in [-1, 1] is `latents @ factors + bias`; factors are C x 3, of scaled latents."""

    factors: list[list[float]]
    bias: list[float]


def fit_preview_colours(encode: Callable[[Tensor], Tensor]) -> PreviewColours:
    """Least squares from the latents of smooth random pictures to their colours.

    Args:
        encode: Pictures [B, 3, 1, H, W] in [-1, 1] to scaled latents [B, C, 1, H/8, W/8].
    """
    pictures = _smooth_pictures()
    latents = encode(pictures).float().cpu()
    colours = F.interpolate(pictures[:, :, 0], size=latents.shape[3:], mode="area")
    x = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    y = colours.movedim(1, -1).reshape(-1, 3)
    # A little ridge: a VAE of few distinct latents must not blow the factors up.
    gram = x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1])
    solution = torch.linalg.solve(gram, x.T @ y)
    return PreviewColours(solution[:-1].tolist(), solution[-1].tolist())


def _smooth_pictures() -> Tensor:
    """Random colour fields of several scales, [B, 3, 1, H, W] in [-1, 1], always the same."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(_PICTURES, 3, _SIDE, _SIDE)
    for scale in _SCALES:
        field = torch.randn(_PICTURES, 3, scale, scale, generator=generator)
        pictures += F.interpolate(field, size=(_SIDE, _SIDE), mode="bicubic")
    return torch.tanh(pictures / 2).unsqueeze(2)
