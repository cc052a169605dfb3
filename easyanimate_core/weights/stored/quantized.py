"""Matrices of linear layers in 8 or 4 bits, with optimum-quanto.

Shapes: O output features, I input features, N groups of G input features, H = N / 2 rounded up.

Scales are float32, and the values are in quanto's kernel-agnostic tensors, so a weight is the same
on every device, can be moved without repacking, and takes scaled values from a file unchanged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from .layers import may_be_quantized
from .pieces import over_pieces
from .quanto import quanto
from .rounding import check_finite, to_storage

#: Input features per scale in qint4; the largest that divides a layer's width is used.
GROUP_SIZES = (128, 96, 64, 32)
_EIGHT_BITS = {"qfloat8": "fp8-channel", "qint8": "int8"}
_STORED = {
    torch.float8_e4m3fn: "qfloat8_e4m3fn",
    torch.float8_e5m2: "qfloat8_e5m2",
    torch.int8: "qint8",
}


@dataclass(frozen=True)
class Quantizer:
    """How to quantise a network: `kind` is one of `memory.QUANTIZATIONS`, except "none".

    `selects` decides by a tensor's name and shape; it must select only weights of `nn.Linear`.
    """

    kind: str
    selects: Callable[[str, Sequence[int]], bool] = may_be_quantized

    def __call__(self, weight_OI: Tensor) -> Tensor:
        """Quantise a weight."""
        return quantize(weight_OI, self.kind)


def quantize(weight_OI: Tensor, kind: str) -> Tensor:
    """Quantise a matrix to a quanto tensor: "qfloat8", "qint8" or "qint4".

    The 8-bit kinds have a scale per output channel. qint4 has a scale and a shift per group of
    input features: the largest of `GROUP_SIZES` that divides the width, else the whole width.

    Raises:
        CheckpointError: The matrix contains NaN or infinite values.
    """
    return _four_bits(weight_OI) if kind == "qint4" else _eight_bits(weight_OI, kind)


def quantized_from_values(values_OI: Tensor, scale: Tensor) -> Tensor:
    """A quanto tensor of already quantised values, which are not rounded again.

    Args:
        values_OI: float8 (e4m3fn, e5m2) or int8.
        scale: Factor of the values: one number, or one per output channel.

    Raises:
        CheckpointError: The dtype or the shape of the scale is not supported.
    """
    package = quanto()
    if values_OI.dtype not in _STORED:
        raise CheckpointError(
            f"Stored values are {values_OI.dtype}; quantised weights must be one of "
            f"{', '.join(str(dtype) for dtype in _STORED)}. Convert the file again."
        )
    if scale.numel() not in (1, len(values_OI)):
        raise CheckpointError(
            f"The scale of a weight {tuple(values_OI.shape)} has the shape {tuple(scale.shape)}; "
            "it must be one number or one per row. Convert the file again."
        )
    whole = scale.numel() < len(values_OI)
    scale = scale.float().reshape(() if whole else (-1, 1))
    return package.WeightQBytesTensor(
        package.qtypes[_STORED[values_OI.dtype]],
        None if whole else 0,
        values_OI.shape,
        values_OI.stride(),
        values_OI,
        scale,
        None,
    )


def stored_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters as stored in memory."""
    return sum(tensor.nbytes for p in network.parameters() for tensor in plain_tensors(p))


def plain_tensors(tensor: Any) -> Iterator[Tensor]:
    """The components of a quanto tensor (values, scale, shift), or the plain tensor itself."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from plain_tensors(getattr(tensor, name))


def _eight_bits(weight_OI: Tensor, kind: str) -> Tensor:
    stored = to_storage(weight_OI, _EIGHT_BITS[kind])
    return quantized_from_values(stored.values, stored.scale)


def _four_bits(weight_OI: Tensor) -> Tensor:
    """Groups of the first half are in the low bits, those of the second half in the high bits."""
    package = quanto()
    from .packed import Nibbles

    num_inputs = weight_OI.shape[1]
    group = next((size for size in GROUP_SIZES if num_inputs % size == 0), num_inputs)
    groups_NG = weight_OI.reshape(-1, group)
    num, device = len(groups_NG), weight_OI.device
    half = ceil(num / 2)
    packed_HG = torch.empty(half, group, dtype=torch.uint8, device=device)
    scale_N1, shift_N1 = torch.empty(2, num, 1, device=device)

    def four_bits(rows: slice) -> Tensor:
        part = groups_NG[rows].float()
        low, high = part.amin(1, keepdim=True), part.amax(1, keepdim=True)
        scale = _not_zero(check_finite(high - low) / 15)
        scale_N1[rows], shift_N1[rows] = scale, -low
        # Through int8, because PyTorch converts to uint8 one by one.
        return (part - low).div_(scale).round_().clamp_(0, 15).to(torch.int8).view(torch.uint8)

    def pack(rows: slice) -> None:
        packed = packed_HG[rows].copy_(four_bits(rows))
        second = slice(half + rows.start, min(half + rows.stop, num))
        if second.start < num:
            packed[: second.stop - second.start] |= four_bits(second).bitwise_left_shift_(4)

    deque(over_pieces(pack, packed_HG.shape), maxlen=0)
    packed = Nibbles(packed_HG, 4, groups_NG.shape, (group, 1))
    size, stride = weight_OI.shape, (num_inputs, 1)
    return package.WeightQBitsTensor(
        package.qint4, 0, group, size, stride, packed, scale_N1, shift_N1
    )


def _not_zero(scale: Tensor) -> Tensor:
    """Avoid a zero scale, for rows whose values are all equal, such as zeros."""
    return scale.clamp(min=torch.finfo(scale.dtype).tiny)
