"""Colours of live previews, fitted to the VAE that decodes the latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

_SIDE = 64
_PICTURES = 8
_SCALES = (2, 4, 8, 16)


@dataclass(frozen=True)
class PreviewColours:
    """RGB in [-1, 1] is `latents @ factors + bias`; factors are C x 3, for scaled latents."""

    factors: list[list[float]]
    bias: list[float]


def fit_preview_colours(encode: Callable[[Tensor], Tensor]) -> PreviewColours:
    """Least-squares fit from the latents of smooth random images to their colours.

    Args:
        encode: Maps images [B, 3, 1, H, W] in [-1, 1] to scaled latents [B, C, 1, H/8, W/8].
    """
    pictures = _smooth_pictures()
    latents = encode(pictures).float().cpu()
    colours = F.interpolate(pictures[:, :, 0], size=latents.shape[3:], mode="area")
    x = rearrange(latents, "b c f h w -> (b f h w) c")
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    y = rearrange(colours, "b c h w -> (b h w) c")
    # A small ridge term keeps the factors bounded if a VAE has few distinct latents.
    gram = x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1])
    solution = torch.linalg.solve(gram, x.T @ y)
    return PreviewColours(solution[:-1].tolist(), solution[-1].tolist())


def _smooth_pictures() -> Tensor:
    """Fixed random colour fields of several scales, [B, 3, 1, H, W] in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(_PICTURES, 3, _SIDE, _SIDE)
    for scale in _SCALES:
        field = torch.randn(_PICTURES, 3, scale, scale, generator=generator)
        pictures += F.interpolate(field, size=(_SIDE, _SIDE), mode="bicubic")
    return torch.tanh(pictures / 2).unsqueeze(2)
