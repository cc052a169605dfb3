"""Encoder: video chunks to moments of the latent distribution, one convolution history per run.

Shapes: B batch, C channels, F frames, H, W height and width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..ops import Operations
from ..specs import VAEConfig
from .blocks import NORM_EPS, DownBlock3D, Downsampler3D, MidBlock3D, normalise
from .causal_conv import History, causal_conv3d, convolve


class Encoder(nn.Module):
    """Every block except the last halves the size; of those, all but the first halve time."""

    def __init__(self, config: VAEConfig, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        layers: dict[str, Any] = {"operations": operations, **factory}
        conv = causal_conv3d(operations)
        widths = config.block_out_channels
        self.conv_in = conv(config.in_channels, widths[0], **factory)
        self.down_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            downsampler = None
            if i < len(widths) - 1:
                stride = (1 if i == 0 else 2, 2, 2)
                downsampler = Downsampler3D(width, stride=stride, **layers)
            block = DownBlock3D(
                config, widths[max(i - 1, 0)], width, downsampler=downsampler, **layers
            )
            self.down_blocks.append(block)
        self.mid_block = MidBlock3D(config, widths[-1], **layers)
        self.conv_norm_out = operations.GroupNorm(
            config.norm_num_groups, widths[-1], eps=NORM_EPS, **factory
        )
        self.conv_out = conv(widths[-1], 2 * config.latent_channels, **factory)
        self.norm_per_frame = config.spatial_group_norm

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Encode the next chunk of a video to (B, 2 x latent channels, F / 4, H / 8, W / 8).

        The first chunk is one frame and encodes to one latent frame.
        """
        x_BCFHW = convolve(self.conv_in, x_BCFHW, history)
        for block in self.down_blocks:
            x_BCFHW = block(x_BCFHW, history)
        x_BCFHW = self.mid_block(x_BCFHW, history)
        x_BCFHW = normalise(self.conv_norm_out, x_BCFHW, self.norm_per_frame)
        return convolve(self.conv_out, x_BCFHW, history, activate=True)
