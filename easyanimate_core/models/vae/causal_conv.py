"""Causal 3-D convolution, computed chunk by chunk and with as few products as the frames allow.

Shapes: B batch, C channels, F frames, H, W height and width of this level, P frames of the past.

A kernel of three frames sees two frames of the past; before the first frame of a clip it sees that
frame itself. In float32 the convolution over time is written as 2-D convolutions ("products") of
sums of frames with sums of taps, because there are fewer of them than frames times taps:

* the first frame of a clip: 1 instead of 3, all taps see the same frame;
* a pair of frames: 4 instead of 6, Winograd's F(2, 3) (Lavin and Gray, arXiv:1509.09308);
* a frame that is shown twice: 3 instead of 6;
* behind a nearest 2x enlargement, 2 x 2 taps instead of 3 x 3: the others see the same pixels.

Half precision would round those sums, so there the plain convolution is done.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import Operations

KERNEL = 3

#: Factors of the oldest, the middle and the newest tap.
Times = tuple[float, float, float]


class History:
    """What one run remembers between chunks: the last input frames of every convolution."""

    def __init__(self) -> None:
        self._frames: dict[nn.Module, Tensor] = {}

    def has(self, conv: nn.Module) -> bool:
        """Whether `conv` has seen a chunk in this run; if not, the next one is the first frame."""
        return conv in self._frames

    def prepend(self, conv: Any, x_BCFHW: Tensor, *, activate: bool = False) -> Tensor:
        """`x` behind the remembered past of `conv`; the first frame of a run stays alone.

        With `activate` SiLU is applied to `x` on the way: one pass over the memory less.
        """
        past_BCPHW = self._frames.get(conv)
        if past_BCPHW is None:
            assert x_BCFHW.shape[2] == 1, "the first chunk of a run is one frame"
            x_BCFHW = _silu(x_BCFHW) if activate else x_BCFHW
            self._frames[conv] = x_BCFHW.expand(-1, -1, conv.past_frames, -1, -1)
            return x_BCFHW
        past, new = channels_last(past_BCPHW), channels_last(x_BCFHW)
        if activate and not torch.is_grad_enabled():
            num_past = past.shape[1]
            joined = new.new_empty(new.shape[0], num_past + new.shape[1], *new.shape[2:])
            joined[:, :num_past] = past
            torch.ops.aten.silu.out(new, out=joined[:, num_past:])
        else:
            joined = torch.cat([past, _silu(new) if activate else new], dim=1)
        x_BCFHW = joined.permute(0, 4, 1, 2, 3)
        # A copy, because a view would keep all frames of the chunk in memory.
        self._frames[conv] = x_BCFHW[:, :, -conv.past_frames :].clone()
        return x_BCFHW


def _silu(x: Tensor) -> Tensor:
    return F.silu(x, inplace=not torch.is_grad_enabled())


def channels_last(x_BCFHW: Tensor) -> Tensor:
    """View as (B, F, H, W, C).

    That is the order in memory here: whole pixels are copied (a quarter of the time of torch.cat on
    the other view), and frames, not channels, are joined for `group_norm` and 2-D convolutions.
    """
    return x_BCFHW.permute(0, 2, 3, 4, 1)


def convolve(conv: Any, x_BCFHW: Tensor, history: History, *, activate: bool = False) -> Tensor:
    """Run a causal convolution on the next chunk of a clip; the first chunk is one frame.

    With `activate` it is run on SiLU of `x`.
    """
    x_BCFHW = history.prepend(conv, x_BCFHW, activate=activate)
    return conv(x_BCFHW)


@lru_cache(maxsize=8)
def causal_conv3d(operations: Operations) -> Any:
    """The namespace's Conv3d with causal arithmetic.

    It derives from the namespace's own class and changes only what happens after that class has
    cast or patched the weights, so streaming, patching and fp8 of a host apply to it.
    """

    class CausalConv3d(operations.Conv3d):
        """Conv3d over 3 x 3 x 3; its input is one frame, or the past frames and a chunk.

        `repeats`: every frame stands for two equal ones, so twice as many come out (but the first
        frame of a clip for one). `enlarges`: height and width are doubled beforehand (nearest).
        """

        def __init__(
            self,
            in_channels: int,
            out_channels: int,
            *,
            stride: tuple[int, int, int] = (1, 1, 1),
            repeats: bool = False,
            enlarges: bool = False,
            dtype: torch.dtype | None,
            device: torch.device | None,
        ) -> None:
            side = 0 if stride[1] == 2 else 1  # a strided convolution gets its padding beforehand
            super().__init__(
                in_channels,
                out_channels,
                kernel_size=KERNEL,
                stride=stride,
                padding=(0, side, side),
                dtype=dtype,
                device=device,
            )
            self.repeats = repeats
            self.enlarges = enlarges
            self.past_frames = 1 if repeats or stride[0] == 2 else 2

        def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None, **_: Any) -> Tensor:
            if x.dtype == torch.float32 and (self.enlarges or _saves_products(x, self)):
                return _conv_by_products(x, weight, bias, self)
            if self.enlarges:
                x = F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")
            if x.shape[2] == 1:
                x = x.expand(-1, -1, KERNEL, -1, -1)
            elif self.repeats:
                x = x.repeat_interleave(2, dim=2)
            if x.shape[2] == KERNEL:
                # One frame to compute: many channels, and oneDNN takes 3/5 of the time for channels
                # first. More frames are not worth the copy.
                x = x.contiguous()
            return super()._conv_forward(x, weight, bias)

    return CausalConv3d


def _saves_products(x_BCFHW: Tensor, layer: Any) -> bool:
    num_frames = x_BCFHW.shape[2]
    return num_frames == 1 or layer.repeats or (layer.stride[0] == 1 and num_frames % 2 == 0)


def _conv_by_products(x_BCFHW: Tensor, weight: Tensor, bias: Tensor | None, layer: Any) -> Tensor:
    """Convolution of a first frame, or of past frames and a chunk; weight (out, in, 3, 3, 3)."""

    def product(frames: Tensor, times: Times, bias: Tensor | None = None) -> Tensor:
        taps = _sum_taps(weight, times, enlarges=layer.enlarges)
        return _conv_frames(frames, taps, bias, layer)

    num_frames = x_BCFHW.shape[2]
    if num_frames == 1:
        y = product(x_BCFHW, (1, 1, 1), bias)
    elif layer.repeats:
        past, new = x_BCFHW[:, :, :-1], x_BCFHW[:, :, 1:]
        later = product(past, (1, 0, 0))
        later += product(new, (0, 1, 1), bias)
        earlier = product(past - new, (0, 1, 0))
        earlier += later
        y = _join_pairs(earlier, later)
    elif num_frames % 2 == 0:
        even, odd = x_BCFHW[:, :, 0::2], x_BCFHW[:, :, 1::2]
        later = product(odd[:, :, :-1] + even[:, :, 1:], (0.5, 0.5, 0.5), bias)
        change = product(even[:, :, 1:] - odd[:, :, :-1], (0.5, -0.5, 0.5))
        earlier = later + change
        earlier += product(even[:, :, :-1] - even[:, :, 1:], (1, 0, 0))
        later -= change
        later -= product(odd[:, :, :-1] - odd[:, :, 1:], (0, 0, 1))
        y = _join_pairs(earlier, later)
    else:
        y = product(x_BCFHW[:, :, :-2], (1, 0, 0), bias)
        y += product(x_BCFHW[:, :, 1:-1], (0, 1, 0))
        y += product(x_BCFHW[:, :, 2:], (0, 0, 1))
    return _join_copies(y) if layer.enlarges else y


def _conv_frames(x_BCFHW: Tensor, taps: Tensor, bias: Tensor | None, layer: Any) -> Tensor:
    """2-D convolution of every frame with the kernels of `_sum_taps`."""
    if layer.enlarges:
        bias = None if bias is None else bias.repeat(4)
    frames = x_BCFHW.transpose(1, 2)  # (B, F, C, H, W)
    y = F.conv2d(frames.flatten(0, 1), taps, bias, layer.stride[1:], layer.padding[1:])
    return y.unflatten(0, frames.shape[:2]).transpose(1, 2)


def _sum_taps(weight: Tensor, times: Times, *, enlarges: bool) -> Tensor:
    """2-D kernels: the taps (out, in, 3, 3, 3) summed over time with the factors `times`.

    (out, in, 3, 3), or with `enlarges` (4 x out, in, 2, 2): those that do on an image what the sum
    does on its 2x nearest enlargement, one per copy of a pixel. The first copy sees the pixels
    [before, own, own], the second [own, own, after], in rows and in columns.

    A matrix product: adding strided taps takes several times as long.
    """
    if not enlarges and sorted(times) == [0, 0, 1]:
        return weight[:, :, times.index(1)]
    plan = torch.eye(9)
    if enlarges:
        first = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
        second = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        copies = (first, second)
        plan = torch.cat([torch.kron(rows, columns) for rows in copies for columns in copies])
    plan = torch.kron(torch.tensor([times]), plan).to(weight)  # (9 or 16, 27)
    taps = (weight.flatten(2).flatten(0, 1) @ plan.T).unflatten(0, weight.shape[:2])
    if not enlarges:
        return taps.unflatten(2, (3, 3))
    return taps.unflatten(2, (4, 2, 2)).movedim(2, 0).flatten(0, 1)


def _join_pairs(earlier_BCFHW: Tensor, later_BCFHW: Tensor) -> Tensor:
    """Frames in turn from one and the other: (B, C, 2 F, H, W)."""
    pairs = [channels_last(earlier_BCFHW), channels_last(later_BCFHW)]
    return torch.stack(pairs, dim=2).flatten(1, 2).permute(0, 4, 1, 2, 3)


def _join_copies(y_BCFHW: Tensor) -> Tensor:
    """(B, 4 x C, F, H + 1, W + 1), one quarter per copy, to (B, C, F, 2 H, 2 W).

    The kernels of the first copies reach one pixel back, those of the second one ahead.
    """
    height, width = y_BCFHW.shape[3] - 1, y_BCFHW.shape[4] - 1
    # (B, F, H + 1, W + 1, copy in rows p, copy in columns q, C)
    y = channels_last(y_BCFHW).unflatten(-1, (2, 2, -1))
    rows = [
        torch.stack([y[:, :, p : p + height, q : q + width, p, q] for q in range(2)], dim=4)
        for p in range(2)
    ]
    return torch.stack(rows, dim=3).flatten(4, 5).flatten(2, 3).permute(0, 4, 1, 2, 3)
