"""Decoder: latent chunks to video chunks, one convolution history per run.

Shapes: B batch, C channels, F frames, H, W height and width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..ops import Operations
from ..specs import VAEConfig
from .blocks import NORM_EPS, MidBlock3D, UpBlock3D, Upsampler3D, normalise
from .causal_conv import History, causal_conv3d, convolve


class Decoder(nn.Module):
    """Every block except the last doubles the size; of those, all but the first double time."""

    def __init__(self, config: VAEConfig, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        layers: dict[str, Any] = {"operations": operations, **factory}
        conv = causal_conv3d(operations)
        widths = config.block_out_channels[::-1]
        self.conv_in = conv(config.latent_channels, widths[0], **factory)
        self.mid_block = MidBlock3D(config, widths[0], **layers)
        self.up_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            upsampler = None
            if i < len(widths) - 1:
                interpolates = i > 0 and not config.spatial_group_norm
                upsampler = Upsampler3D(width, interpolates=interpolates, **layers)
            block = UpBlock3D(
                config,
                widths[max(i - 1, 0)],
                width,
                # The second block is the first to double the frames.
                repeats=i > 1 and config.spatial_group_norm,
                upsampler=upsampler,
                **layers,
            )
            self.up_blocks.append(block)
        self.conv_norm_out = operations.GroupNorm(
            config.norm_num_groups, widths[-1], eps=NORM_EPS, **factory
        )
        self.conv_out = conv(widths[-1], config.out_channels, **factory)
        self.norm_per_frame = config.spatial_group_norm

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Decode the next chunk of latents to (B, out channels, 4 F, 8 H, 8 W).

        The first chunk is one latent frame and decodes to one frame.
        """
        x_BCFHW = convolve(self.conv_in, x_BCFHW, history)
        x_BCFHW = self.mid_block(x_BCFHW, history)
        for block in self.up_blocks:
            x_BCFHW = block(x_BCFHW, history)
        x_BCFHW = normalise(self.conv_norm_out, x_BCFHW, self.norm_per_frame)
        return convolve(self.conv_out, x_BCFHW, history, activate=True)
