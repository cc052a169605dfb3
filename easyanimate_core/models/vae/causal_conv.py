"""Causal 3-D convolution, computed chunk by chunk.

A kernel of three frames sees two past frames; before the first frame of a clip it sees that frame
itself. So a clip can be split into chunks anywhere, if the last frames of each are cached.

Shapes: B batch, C channels, F frames, H, W height and width of this level, P frames of the past.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import Operations
from .winograd import channels_first, channels_last, conv_by_products

KERNEL = 3


@lru_cache(maxsize=8)
def causal_conv3d(operations: Operations) -> Any:
    """The namespace's Conv3d, made causal.

    It derives from the namespace's own class and changes only what happens after that class has
    cast or patched the weights, so a host's streaming, patching and fp8 features apply to it.
    """

    class CausalConv3d(operations.Conv3d):
        """3 x 3 x 3 Conv3d; its input is one frame, or the past frames followed by a chunk.

        `repeats`: every frame except the clip's first stands for two equal ones, so twice as many
        come out. `enlarges`: height and width are doubled first (nearest).
        """

        def __init__(
            self,
            in_channels: int,
            out_channels: int,
            *,
            stride: tuple[int, int, int] = (1, 1, 1),
            repeats: bool = False,
            enlarges: bool = False,
            **factory: Any,
        ) -> None:
            side = 0 if stride[1] == 2 else 1  # strided: the input is already padded
            super().__init__(
                in_channels,
                out_channels,
                kernel_size=KERNEL,
                stride=stride,
                padding=(0, side, side),
                **factory,
            )
            self.repeats = repeats
            self.enlarges = enlarges
            self.past_frames = 1 if repeats or stride[0] == 2 else 2

        def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, **_: Any) -> Tensor:
            y = conv_by_products(x, weight, bias, self)
            if y is not None:
                return y
            frames = channels_last(x)
            if self.enlarges:
                frames = _doubled_sides(frames)
            if frames.shape[1] == 1:
                frames = frames.expand(-1, KERNEL, -1, -1, -1)
            elif self.repeats:
                frames = frames.repeat_interleave(2, dim=1)
            x = in_fast_layout(channels_first(frames))
            return super()._conv_forward(x, weight, bias)

    return CausalConv3d


def in_fast_layout(x_BCFHW: Tensor) -> Tensor:
    """The same values in the memory order in which a convolution over time is fastest.

    In half precision, cuDNN's kernels on tensor cores compute channels last, and a tensor in
    another order is transposed there and back.
    """
    if x_BCFHW.is_cuda and x_BCFHW.dtype in (torch.bfloat16, torch.float16):
        return x_BCFHW.contiguous(memory_format=torch.channels_last_3d)
    if x_BCFHW.shape[2] == KERNEL:
        # One output frame with many channels: channels first, oneDNN takes 3/5 of the time.
        # For more frames the copy does not pay.
        return x_BCFHW.contiguous()
    return x_BCFHW


def _doubled_sides(x_BFHWC: Tensor) -> Tensor:
    """Nearest 2x upsampling of height and width, in the same memory order.

    `F.interpolate` computes channels first on CUDA: it would copy before and after.
    """
    batch, frames, height, width, channels = x_BFHWC.shape
    copies = x_BFHWC[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2, -1)
    return copies.reshape(batch, frames, 2 * height, 2 * width, channels)


def convolve(conv: Any, x_BCFHW: Tensor, history: History, *, activate: bool = False) -> Tensor:
    """Run a causal convolution on the next chunk of a clip; the first chunk is one frame.

    With `activate`, SiLU is applied to `x` first.
    """
    x_BCFHW = history.prepend(conv, x_BCFHW, activate=activate)
    return conv(x_BCFHW)


class History:
    """Cache of one run: the last input frames of every convolution."""

    def __init__(self) -> None:
        self._frames: dict[nn.Module, Tensor] = {}

    def has(self, conv: nn.Module) -> bool:
        """Whether `conv` has seen a chunk in this run; if not, the next one is the first frame."""
        return conv in self._frames

    def prepend(self, conv: Any, x_BCFHW: Tensor, *, activate: bool = False) -> Tensor:
        """`conv`'s cached past followed by `x`; the first frame of a run has no past.

        With `activate`, SiLU is applied to `x` in the same pass over memory.
        """
        past_BCPHW = self._frames.get(conv)
        if past_BCPHW is None:
            assert x_BCFHW.shape[2] == 1, "the first chunk of a run is one frame"
            x_BCFHW = _silu(x_BCFHW) if activate else x_BCFHW
            self._frames[conv] = x_BCFHW.expand(-1, -1, conv.past_frames, -1, -1)
            return x_BCFHW
        # Memory is channels last: concatenated this way, copying takes a quarter of the time.
        past, new = channels_last(past_BCPHW), channels_last(x_BCFHW)
        if activate and not torch.is_grad_enabled():
            num_past = past.shape[1]
            joined = new.new_empty(new.shape[0], num_past + new.shape[1], *new.shape[2:])
            joined[:, :num_past] = past
            torch.ops.aten.silu.out(new, out=joined[:, num_past:])
        else:
            joined = torch.cat([past, _silu(new) if activate else new], dim=1)
        x_BCFHW = channels_first(joined)
        # A copy: a view would keep the whole chunk in memory.
        self._frames[conv] = x_BCFHW[:, :, -conv.past_frames :].clone()
        return x_BCFHW


def _silu(x: Tensor) -> Tensor:
    return F.silu(x, inplace=not torch.is_grad_enabled())
