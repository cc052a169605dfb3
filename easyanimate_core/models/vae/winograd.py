"""A causal convolution in float32, with as few products as its frames allow.

The convolution over time is written as 2-D convolutions ("products") of sums of frames with sums of
taps, because fewer of them are needed than frames times taps:

* the first frame of a clip: 1 instead of 3, because all taps see the same frame;
* a pair of frames: 4 instead of 6, Winograd's F(2, 3) (Lavin and Gray, arXiv:1509.09308);
* a repeated frame: 3 instead of 6;
* after nearest 2x upsampling, 2 x 2 taps instead of 3 x 3: the others see the same pixels.

Half precision would round those sums, so it uses the plain convolution.

Shapes: B batch, C channels, F frames, H, W height and width of this level.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

#: Factors of the oldest, the middle and the newest tap.
Times = tuple[float, float, float]


class CausalLayer(Protocol):
    """The attributes of `CausalConv3d` that are used here."""

    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    repeats: bool
    enlarges: bool


def conv_by_products(
    x_BCFHW: Tensor, weight: Tensor, bias: Tensor | None, layer: CausalLayer
) -> Tensor | None:
    """Convolution of a first frame, or of past frames and a chunk; weight (out, in, 3, 3, 3).

    None if the plain convolution is as good: in other dtypes, and for an odd number of frames.
    """
    num_frames = x_BCFHW.shape[2]
    in_pairs = layer.stride[0] == 1 and num_frames % 2 == 0
    saves = num_frames == 1 or in_pairs or layer.repeats or layer.enlarges
    if x_BCFHW.dtype != torch.float32 or not saves:
        return None

    def product(frames: Tensor, times: Times, bias: Tensor | None = None) -> Tensor:
        taps = _sum_taps(weight, times, enlarges=layer.enlarges)
        return _conv_frames(frames, taps, bias, layer)

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


def _conv_frames(x_BCFHW: Tensor, taps: Tensor, bias: Tensor | None, layer: CausalLayer) -> Tensor:
    """2-D convolution of every frame with the kernels of `_sum_taps`."""
    if layer.enlarges:
        bias = None if bias is None else bias.repeat(4)
    frames = x_BCFHW.transpose(1, 2)  # (B, F, C, H, W)
    y = F.conv2d(frames.flatten(0, 1), taps, bias, layer.stride[1:], layer.padding[1:])
    return y.unflatten(0, frames.shape[:2]).transpose(1, 2)


def _sum_taps(weight: Tensor, times: Times, *, enlarges: bool) -> Tensor:
    """2-D kernels: the taps (out, in, 3, 3, 3) summed over time with the factors `times`.

    (out, in, 3, 3), or with `enlarges` (4 x out, in, 2, 2): kernels that do to an image what the
    sum does to its nearest 2x upsampling, one per copy of a pixel. The first copy sees the pixels
    [before, own, own], the second [own, own, after], in rows and in columns.

    Done as a matrix product: adding strided taps takes several times as long.
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
    return rearrange(taps, "o i (copies h w) -> (copies o) i h w", copies=4, h=2)


def _join_pairs(earlier_BCFHW: Tensor, later_BCFHW: Tensor) -> Tensor:
    """The frames of both, interleaved: (B, C, 2 F, H, W)."""
    pairs = [channels_last(earlier_BCFHW), channels_last(later_BCFHW)]
    return channels_first(torch.stack(pairs, dim=2).flatten(1, 2))


def _join_copies(y_BCFHW: Tensor) -> Tensor:
    """(B, 4 x C, F, H + 1, W + 1), one quarter per copy, to (B, C, F, 2 H, 2 W).

    Kernels of the first copies reach one pixel back, those of the second one pixel ahead.
    """
    height, width = y_BCFHW.shape[3] - 1, y_BCFHW.shape[4] - 1
    # (B, F, H + 1, W + 1, copy in rows p, copy in columns q, C)
    y = channels_last(y_BCFHW).unflatten(-1, (2, 2, -1))
    rows = [
        torch.stack([y[:, :, p : p + height, q : q + width, p, q] for q in range(2)], dim=4)
        for p in range(2)
    ]
    return channels_first(torch.stack(rows, dim=3).flatten(4, 5).flatten(2, 3))


def channels_last(x_BCFHW: Tensor) -> Tensor:
    """View as (B, F, H, W, C).

    This is the memory order here: whole pixels are copied (in a quarter of the time of torch.cat on
    the other view), and frames, not channels, are merged for `group_norm` and 2-D convolutions.
    """
    return x_BCFHW.permute(0, 2, 3, 4, 1)


def channels_first(x_BFHWC: Tensor) -> Tensor:
    """The inverse view.

    Merge axes before it: merged after it, a batch of one gets a stride from which `group_norm` no
    longer recognises the memory order, and copies.
    """
    return x_BFHWC.permute(0, 4, 1, 2, 3)
