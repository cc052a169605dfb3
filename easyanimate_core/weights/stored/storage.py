"""8-bit weights with a scale, and weights in GGUF blocks.

A weight [N, K] is `values * scale`, with one scale for the whole matrix or one per output channel
(row). The names in files are ComfyUI's, see `files.scaled`; `reader` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..files.scaled import note_name, scale_name
from .float8 import to_float32

#: Dtype of unpacked weights if none is requested.
UNPACKED_DTYPE = torch.bfloat16


@dataclass(frozen=True)
class StorageFormat:
    """An 8-bit format.

    Args:
        note: The format's name in `X.comfy_quant`. ComfyUI reads `float8_e4m3fn` with one scale
            since 0.8, and `int8_tensorwise` with one per channel in newer releases. It does not
            support fp8 with a scale per channel, so that has a distinct name, lest it be misread.
        word: Dtype of the values, as spelled in file headers.
        dtype: Dtype of the values.
        largest: The largest value used.
        per_channel: Whether every output channel has its own scale.
    """

    note: str
    word: str
    dtype: torch.dtype
    largest: float
    per_channel: bool


_FP8 = ("F8_E4M3", torch.float8_e4m3fn, 448.0)
STORAGE_FORMATS = {
    "fp8": StorageFormat("float8_e4m3fn", *_FP8, per_channel=False),
    "fp8-channel": StorageFormat("float8_e4m3fn_channel", *_FP8, per_channel=True),
    "int8": StorageFormat("int8_tensorwise", "I8", torch.int8, 127.0, per_channel=True),
}


def format_of(is_int8: bool, num_scales: int) -> str:
    """The key of `STORAGE_FORMATS` for a weight with this many scales."""
    if is_int8:
        return "int8"
    return "fp8" if num_scales == 1 else "fp8-channel"


@dataclass(frozen=True)
class ScaledWeight:
    """A weight [N, K] as `values` in fp8 or int8 and a `scale` in float32, () or [N, 1]."""

    values: Tensor
    scale: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return self.values.shape

    @property
    def format_name(self) -> str:
        """A key of `STORAGE_FORMATS`."""
        return format_of(self.values.dtype == torch.int8, self.scale.numel())

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight itself, multiplied in float32."""
        return (to_float32(self.values) * self.scale).to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Like `Tensor.to`, dequantized; bfloat16 if no dtype is given."""
        return self.dequantize(dtype or UNPACKED_DTYPE).to(device=device)


@dataclass(frozen=True)
class PackedWeight:
    """A weight in GGUF blocks, unpacked to float32 by every call of `read`."""

    shape: torch.Size
    read: Callable[[], Tensor]
    format_name = "GGUF"

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight itself."""
        return self.read().to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Like `Tensor.to`, dequantized; bfloat16 if no dtype is given."""
        return self.dequantize(dtype or UNPACKED_DTYPE).to(device=device)


#: A weight in any of its stored forms.
Stored = Tensor | ScaledWeight | PackedWeight


def as_tensors(name: str, stored: ScaledWeight) -> dict[str, Tensor]:
    """A stored weight as tensors, named as in files.

    Args:
        name: The weight's name, `X.weight`.
        stored: Values and scale.
    """
    return {
        name: stored.values,
        scale_name(name): stored.scale,
        note_name(name): note(stored.format_name),
    }


def note(kind: str) -> Tensor:
    """The note on a format for ComfyUI's loader: JSON as bytes."""
    return note_of({"format": STORAGE_FORMATS[kind].note})


def note_of(content: Mapping[str, object]) -> Tensor:
    """A note with any content: JSON as bytes."""
    return torch.tensor(list(json.dumps(dict(content)).encode()), dtype=torch.uint8)
