"""Blocks of the VAE: residual block, down, middle and up block.

Shapes: B batch, C channels, F frames, H, W height and width of this level.
Names of parameters are those of the published checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import Operations
from ..specs import VAEConfig
from .causal_conv import History, causal_conv3d, convolve

NORM_EPS = 1e-6


class ResidualBlock3D(nn.Module):
    """Two normalised causal convolutions beside a shortcut.

    `repeats`: every input frame but the first of the clip stands for two, see `UpBlock3D`.
    """

    def __init__(
        self,
        config: VAEConfig,
        in_channels: int,
        out_channels: int,
        *,
        repeats: bool = False,
        operations: Operations,
        dtype: torch.dtype | None,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        conv = causal_conv3d(operations)
        groups = config.norm_num_groups
        self.norm1 = operations.GroupNorm(
            groups, in_channels, eps=NORM_EPS, dtype=dtype, device=device
        )
        self.conv1 = conv(in_channels, out_channels, repeats=repeats, dtype=dtype, device=device)
        self.norm2 = operations.GroupNorm(
            groups, out_channels, eps=NORM_EPS, dtype=dtype, device=device
        )
        self.conv2 = conv(out_channels, out_channels, dtype=dtype, device=device)
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = operations.Conv3d(
                in_channels, out_channels, kernel_size=1, dtype=dtype, device=device
            )
        self.norm_per_frame = config.spatial_group_norm

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """The next chunk of a clip; with `repeats` twice as many frames come out."""
        # One name and one step a line: every tensor is freed as soon as the next one is there.
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


class MidBlock3D(nn.Module):
    """Residual blocks at the lowest resolution."""

    def __init__(
        self,
        config: VAEConfig,
        channels: int,
        *,
        operations: Operations,
        dtype: torch.dtype | None,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ResidualBlock3D(
                config, channels, channels, operations=operations, dtype=dtype, device=device
            )
            for _ in range(config.layers_per_block)
        )

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """The next chunk of a clip, shape unchanged."""
        for conv in self.convs:
            x_BCFHW = conv(x_BCFHW, history)
        return x_BCFHW


class DownBlock3D(nn.Module):
    """Residual blocks, then half the size (and half the frames where `stride[0]` is 2).

    `stride` is None in the last block, which keeps the size.
    """

    def __init__(
        self,
        config: VAEConfig,
        in_channels: int,
        out_channels: int,
        *,
        stride: tuple[int, int, int] | None,
        operations: Operations,
        dtype: torch.dtype | None,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ResidualBlock3D(
                config,
                in_channels if i == 0 else out_channels,
                out_channels,
                operations=operations,
                dtype=dtype,
                device=device,
            )
            for i in range(config.layers_per_block)
        )
        self.downsampler = None
        if stride is not None:
            self.downsampler = Downsampler3D(
                out_channels, stride, operations=operations, dtype=dtype, device=device
            )

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """The next chunk of a clip, halved by the stride."""
        for conv in self.convs:
            x_BCFHW = conv(x_BCFHW, history)
        return x_BCFHW if self.downsampler is None else self.downsampler(x_BCFHW, history)


class Downsampler3D(nn.Module):
    """Strided causal convolution; zeros are padded at the bottom and at the right only."""

    def __init__(
        self,
        channels: int,
        stride: tuple[int, int, int],
        *,
        operations: Operations,
        dtype: torch.dtype | None,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        self.conv = causal_conv3d(operations)(
            channels, channels, stride=stride, dtype=dtype, device=device
        )

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """The next chunk of a clip, divided by the stride."""
        return convolve(self.conv, F.pad(x_BCFHW, (0, 1, 0, 1)), history)


class UpBlock3D(nn.Module):
    """Residual blocks, then twice the size, and twice the frames where `interpolates`.

    Where time is doubled by repetition (V5.1), the block that doubles hands every frame on once and
    the next block, built with `repeats`, makes the copies after it has normalised the frame.
    """

    def __init__(
        self,
        config: VAEConfig,
        in_channels: int,
        out_channels: int,
        *,
        repeats: bool,
        upsampler: Upsampler3D | None,
        operations: Operations,
        dtype: torch.dtype | None,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ResidualBlock3D(
                config,
                in_channels if i == 0 else out_channels,
                out_channels,
                repeats=repeats and i == 0,
                operations=operations,
                dtype=dtype,
                device=device,
            )
            for i in range(config.layers_per_block + 1)
        )
        self.upsampler = upsampler

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """The next chunk of a clip, enlarged by the upsampler."""
        for conv in self.convs:
            x_BCFHW = conv(x_BCFHW, history)
        return x_BCFHW if self.upsampler is None else self.upsampler(x_BCFHW, history)


class Upsampler3D(nn.Module):
    """Nearest 2x enlargement and a causal convolution, then linear interpolation in time (V5)."""

    def __init__(
        self,
        channels: int,
        *,
        interpolates: bool,
        operations: Operations,
        dtype: torch.dtype | None,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        self.conv = causal_conv3d(operations)(
            channels, channels, enlarges=True, dtype=dtype, device=device
        )
        self.interpolates = interpolates

    def forward(self, x_BCFHW: Tensor, history: History) -> Tensor:
        """The next chunk of a clip; the first frame of the clip is never doubled in time."""
        is_first = not history.has(self.conv)
        x_BCFHW = convolve(self.conv, x_BCFHW, history)
        if self.interpolates and not is_first:
            x_BCFHW = F.interpolate(x_BCFHW, scale_factor=(2, 1, 1), mode="trilinear")
        return x_BCFHW


def normalise(norm: nn.Module, x_BCFHW: Tensor, per_frame: bool) -> Tensor:
    """Group normalisation, over each frame alone or over the chunk's frames together."""
    if not per_frame:
        return norm(x_BCFHW)
    frames = x_BCFHW.transpose(1, 2)  # (B, F, C, H, W)
    return norm(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)
