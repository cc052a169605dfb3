"""A discriminator of video patches: three strided 3-D convolutions and a score per position.

Source: PatchGAN (Isola et al., arXiv 1611.07004), with time as a third dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOPE = 0.2
_GROUPS = 8


class PatchDiscriminator(nn.Module):
    """Scores a video [B, 3, F, H, W] in [-1, 1]; above zero means real. F may be 1."""

    def __init__(self, channels: int, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = [_conv(3, channels), nn.LeakyReLU(_SLOPE)]
            for _ in range(2):
                layers += [
                    _conv(channels, 2 * channels),
                    nn.GroupNorm(_GROUPS, 2 * channels),
                    nn.LeakyReLU(_SLOPE),
                ]
                channels *= 2
            layers.append(nn.Conv3d(channels, 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, video_BCFHW: Tensor) -> Tensor:
        """[B, 1, F, H / 8, W / 8]."""
        return self.layers(video_BCFHW)


def _conv(inputs: int, outputs: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, (3, 4, 4), stride=(1, 2, 2), padding=(1, 1, 1))


def hinge_loss(real: Tensor, made: Tensor) -> Tensor:
    """The hinge loss: real clips should score above 1, generated below -1 (arXiv 1705.02894)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())
