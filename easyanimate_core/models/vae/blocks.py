"""Blocks of the VAE: down, mid and up block, and the residual block that they are made of.

Shapes: B batch, C channels, F frames, H, W height and width of this level.
Parameters are named as in the published checkpoints.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import Operations
from ..specs import VAEConfig
from .causal_conv import History, causal_conv3d, convolve

NORM_EPS = 1e-6


class DownBlock3D(nn.Module):
    """Residual blocks, then a downsampler; the last block has none and keeps the size."""

    def __init__(
        self,
        config: VAEConfig,
        in_channels: int,
        out_channels: int,
        *,
        downsampler: Downsampler3D | None,
        **layers: Any,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ResidualBlock3D(config, in_channels if i == 0 else out_channels, out_channels, **layers)
            for i in range(config.layers_per_block)
        )
        self.downsampler = downsampler

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Process the next chunk of a clip."""
        for block in self.convs:
            x_BCFHW = block(x_BCFHW, history)
        return x_BCFHW if self.downsampler is None else self.downsampler(x_BCFHW, history)


class Downsampler3D(nn.Module):
    """Strided causal convolution: halves the size, and the frames too if `stride[0]` is 2.

    Zero padding is at the bottom and right only.
    """

    def __init__(
        self, channels: int, *, stride: tuple[int, int, int], operations: Operations, **factory: Any
    ) -> None:
        super().__init__()
        self.conv = causal_conv3d(operations)(channels, channels, stride=stride, **factory)

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Process the next chunk of a clip; its size is divided by the stride."""
        return convolve(self.conv, F.pad(x_BCFHW, (0, 1, 0, 1)), history)


class MidBlock3D(nn.Module):
    """Residual blocks at the lowest resolution."""

    def __init__(self, config: VAEConfig, channels: int, **layers: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ResidualBlock3D(config, channels, channels, **layers)
            for _ in range(config.layers_per_block)
        )

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Process the next chunk of a clip, shape unchanged."""
        for block in self.convs:
            x_BCFHW = block(x_BCFHW, history)
        return x_BCFHW


class UpBlock3D(nn.Module):
    """Residual blocks, then an upsampler; the last block has none and keeps the size.

    If time is doubled by repetition (V5.1), the doubling block passes every frame on once, and the
    next block, built with `repeats`, makes the copies after normalising the frame.
    """

    def __init__(
        self,
        config: VAEConfig,
        in_channels: int,
        out_channels: int,
        *,
        repeats: bool,
        upsampler: Upsampler3D | None,
        **layers: Any,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ResidualBlock3D(
                config,
                in_channels if i == 0 else out_channels,
                out_channels,
                repeats=repeats and i == 0,
                **layers,
            )
            for i in range(config.layers_per_block + 1)
        )
        self.upsampler = upsampler

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Process the next chunk of a clip."""
        for block in self.convs:
            x_BCFHW = block(x_BCFHW, history)
        return x_BCFHW if self.upsampler is None else self.upsampler(x_BCFHW, history)


class Upsampler3D(nn.Module):
    """Nearest 2x upsampling and a causal convolution, then linear interpolation in time (V5)."""

    def __init__(
        self, channels: int, *, interpolates: bool, operations: Operations, **factory: Any
    ) -> None:
        super().__init__()
        self.conv = causal_conv3d(operations)(channels, channels, enlarges=True, **factory)
        self.interpolates = interpolates

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Process the next chunk of a clip, whose first frame is never doubled in time."""
        is_first = not history.has(self.conv)
        x_BCFHW = convolve(self.conv, x_BCFHW, history)
        if self.interpolates and not is_first:
            x_BCFHW = F.interpolate(x_BCFHW, scale_factor=(2, 1, 1), mode="trilinear")
        return x_BCFHW


class ResidualBlock3D(nn.Module):
    """Two normalised causal convolutions and a shortcut.

    `repeats`: every input frame except the clip's first stands for two, see `UpBlock3D`.
    """

    def __init__(
        self,
        config: VAEConfig,
        in_channels: int,
        out_channels: int,
        *,
        repeats: bool = False,
        operations: Operations,
        **factory: Any,
    ) -> None:
        super().__init__()
        conv = causal_conv3d(operations)
        groups = config.norm_num_groups
        self.norm1 = operations.GroupNorm(groups, in_channels, eps=NORM_EPS, **factory)
        self.conv1 = conv(in_channels, out_channels, repeats=repeats, **factory)
        self.norm2 = operations.GroupNorm(groups, out_channels, eps=NORM_EPS, **factory)
        self.conv2 = conv(out_channels, out_channels, **factory)
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = operations.Conv3d(in_channels, out_channels, kernel_size=1, **factory)
        self.norm_per_frame = config.spatial_group_norm

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """Process the next chunk of a clip; with `repeats`, twice as many frames come out."""
        # One name and one step per line: every tensor is freed as soon as the next one exists.
        hidden = normalise(self.norm1, x_BCFHW, self.norm_per_frame)
        hidden = history.prepend(self.conv1, hidden, activate=True)
        hidden = self.conv1(hidden)
        hidden = normalise(self.norm2, hidden, self.norm_per_frame)
        hidden = history.prepend(self.conv2, hidden, activate=True)
        hidden = self.conv2(hidden)
        shortcut = self.shortcut(x_BCFHW)
        # One shortcut frame per one or two frames of `hidden`.
        frames = hidden.unflatten(2, (shortcut.shape[2], -1))
        if torch.is_grad_enabled():
            return (frames + shortcut.unsqueeze(3)).flatten(2, 3)
        frames += shortcut.unsqueeze(3)
        return hidden


def normalise(norm: nn.Module, x_BCFHW: Tensor, per_frame: bool) -> Tensor:
    """Group normalisation, over each frame separately or over the chunk's frames together."""
    if not per_frame:
        return norm(x_BCFHW)
    frames = x_BCFHW.transpose(1, 2)  # (B, F, C, H, W)
    return norm(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)
