"""4-bit values, two per byte, unpacked in plain PyTorch.

quanto compiles C++ for this on first use, with a compiler that most systems lack. Import this
module only after `quanto()`.
"""

from __future__ import annotations

from typing import Any

import torch
from optimum.quanto.tensor.packed import PackedTensor
from torch import Tensor


class Nibbles(PackedTensor):
    """quanto's tensor, with the values of the first half of the rows in the low bits."""

    def unpack(self) -> Tensor:
        """The values as uint8, one per byte."""
        packed = self._data
        # PyTorch on Metal has no bit shift.
        high = packed // 16 if packed.device.type == "mps" else packed >> 4
        return torch.cat([packed & 15, high])[: self.shape[0]]

    @staticmethod
    def __tensor_unflatten__(inner: Any, meta: Any, size: Any, stride: Any) -> Nibbles:
        return _own(PackedTensor.__tensor_unflatten__(inner, meta, size, stride))

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any, kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(op, types, args, kwargs)
        return _own(result) if type(result) is PackedTensor else result


def _own(packed: PackedTensor) -> Nibbles:
    return Nibbles(packed._data, 4, packed.size(), packed.stride())
