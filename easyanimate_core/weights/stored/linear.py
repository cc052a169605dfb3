"""Linear layers whose weight is stored in 8 or 4 bits.

Shapes: O output features, I input features, N groups of G input features.

A layer dequantizes its weight on use. With a video's thousands of tokens that costs little; kernels
that multiply packed values are made for a few tokens.

The arithmetic is in float32, without float32 copies of whole matrices: on a card, the kernel reads
the values and writes the compute dtype; on a CPU, which has no such kernels, a few rows that stay
in the cache are dequantized at a time. Both round every value once and give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...models.ops import ManualCast
from .float8 import to_float32
from .quantized import plain_tensors

#: Values dequantized at a time on a CPU: 256 KiB in float32.
_PART_VALUES = 64 * 1024


class QuantizedLinear(ManualCast.Linear):
    """A linear layer with a quantised weight; computes in the input's dtype."""

    def weight_for(self, x: Tensor) -> Tensor:
        return dequantized(self.weight, x.dtype).to(x.device)


def use_quantized_layers(network: nn.Module, names: Iterable[str]) -> None:
    """Replace the layers of these weights in a network on the meta device by `QuantizedLinear`."""
    for name in names:
        parent, _, child = name.removesuffix(".weight").rpartition(".")
        holder: Any = network.get_submodule(parent)
        plain: Any = getattr(holder, child)
        layer = QuantizedLinear(
            plain.in_features, plain.out_features, plain.bias is not None, device="meta"
        )
        setattr(holder, child, layer)


def dequantized(weight: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values of a quantised weight; a plain tensor is returned as is."""
    values, *scales = plain_tensors(weight)
    if not scales:
        return values
    if len(scales) == 1:
        return _scaled(values, scales[0], dtype)
    scale_N1, shift_N1 = scales
    return _shifted(weight, scale_N1, shift_N1, dtype)


def _scaled(values_OI: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in 8 bits times a scale, () or [O, 1]."""
    if torch.compiler.is_compiling():  # one kernel
        return (values_OI.float() * scale).to(dtype)
    if values_OI.device.type == "cpu":
        rows_O1 = scale.expand(len(values_OI), 1)

        def fill(part: Tensor, rows: slice) -> Tensor:
            return torch.mul(to_float32(values_OI[rows]), rows_O1[rows], out=part)

        return _in_parts(values_OI, dtype, fill)
    return _scaled_at_once(values_OI, scale, dtype)


def _scaled_at_once(values_OI: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    out_OI = torch.empty_like(values_OI, dtype=dtype)
    if values_OI.dtype is not torch.int8:  # PyTorch multiplies no float8; the cast is exact
        values_OI = out_OI.copy_(values_OI)
    return torch.mul(values_OI, scale, out=out_OI)


def _shifted(weight: Any, scale_N1: Tensor, shift_N1: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in 4 bits times a scale, minus a shift."""
    values_NG: Tensor = weight._data.unpack()
    if torch.compiler.is_compiling():
        return (values_NG * scale_N1 - shift_N1).to(dtype).reshape(weight.shape)
    if values_NG.device.type == "cpu":

        def fill(part: Tensor, rows: slice) -> Tensor:
            return part.copy_(values_NG[rows]).mul_(scale_N1[rows]).sub_(shift_N1[rows])

        return _in_parts(values_NG, dtype, fill).reshape(weight.shape)
    return _shifted_at_once(values_NG, scale_N1, shift_N1, dtype).reshape(weight.shape)


def _shifted_at_once(
    values_NG: Tensor, scale_N1: Tensor, shift_N1: Tensor, dtype: torch.dtype
) -> Tensor:
    scaled_NG = values_NG * scale_N1
    return torch.sub(scaled_NG, shift_N1, out=torch.empty_like(scaled_NG, dtype=dtype))


def _in_parts(
    values: Tensor, dtype: torch.dtype, fill: Callable[[Tensor, slice], Tensor]
) -> Tensor:
    """What `fill` makes of a few rows at a time, in a float32 buffer that is given to it."""
    out = torch.empty_like(values, dtype=dtype)
    step = max(1, _PART_VALUES // max(1, values.shape[1]))
    buffer = torch.empty(min(step, len(values)), values.shape[1])
    for start in range(0, len(values), step):
        rows = slice(start, min(start + step, len(values)))
        out[rows] = fill(buffer[: rows.stop - start], rows)
    return out
