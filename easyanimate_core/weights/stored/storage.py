"""Weights in 8 bits with a scale, and in GGUF's blocks: the forms, and the arithmetic.

A weight [N, K] is `values * scale`, with one scale for the whole matrix or one per output channel
(row). The names in files are ComfyUI's, see `files.scaled`; `reader` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import CheckpointError
from ..files.scaled import note_name, scale_name

#: What stored weights become where no dtype is asked for.
UNPACKED_DTYPE = torch.bfloat16


@dataclass(frozen=True)
class StorageFormat:
    """How weights are stored in 8 bits.

    Args:
        note: The format's word in `X.comfy_quant`. ComfyUI reads `float8_e4m3fn` with one scale
            since 0.8 and `int8_tensorwise` with one per channel in newer releases; fp8 with a scale
            per channel it does not know: that has a word of its own, so that it is not misread.
        word: Of the values, for a file's header.
        dtype: Of the values.
        largest: The largest value that is used.
        per_channel: Whether every output channel has a scale of its own.
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
    """The key of `STORAGE_FORMATS` of a weight with so many scales."""
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
        """Of the weight."""
        return self.values.shape

    @property
    def format_name(self) -> str:
        """A key of `STORAGE_FORMATS`."""
        return format_of(self.values.dtype == torch.int8, self.scale.numel())

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight itself; the product is made in float32."""
        return (self.values.float() * self.scale).to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """As `Tensor.to`, unpacked; bfloat16 where no dtype is given."""
        return self.dequantize(dtype or UNPACKED_DTYPE).to(device=device)


@dataclass(frozen=True)
class PackedWeight:
    """A weight in GGUF's blocks, unpacked to float32 by `read` whenever it is asked for."""

    shape: torch.Size
    read: Callable[[], Tensor]
    format_name = "GGUF"

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight itself."""
        return self.read().to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """As `Tensor.to`, unpacked; bfloat16 where no dtype is given."""
        return self.dequantize(dtype or UNPACKED_DTYPE).to(device=device)


#: A weight in any of the forms that one can be stored in.
Stored = Tensor | ScaledWeight | PackedWeight


def to_storage(weight: Tensor, kind: str) -> ScaledWeight:
    """A weight [N, K] in the format `kind`, a key of `STORAGE_FORMATS`.

    The largest value of the matrix (or of the row) becomes the format's largest; fp8 keeps every
    value to 1/16 of itself down to 1/28672 of the largest, int8 to half a scale.

    Raises:
        CheckpointError: The weight holds infinities or NaN.
    """
    how = STORAGE_FORMATS[kind]
    weight = weight.float()
    rows = tuple(range(1, weight.ndim))
    largest = weight.abs().amax(rows, keepdim=True) if how.per_channel else weight.abs().amax()
    if not largest.isfinite().all():
        raise CheckpointError("It holds values that are infinite or no numbers.")
    scale = (largest / how.largest).clamp(min=torch.finfo(torch.float32).tiny)
    values = (weight / scale).clamp(-how.largest, how.largest)
    if how.dtype == torch.int8:
        values = values.round()
    return ScaledWeight(values.to(how.dtype), scale)


def as_tensors(name: str, stored: ScaledWeight) -> dict[str, Tensor]:
    """A stored weight under the names that it has in files.

    Args:
        name: The weight's own, `X.weight`.
        stored: Values and scale.
    """
    return {
        name: stored.values,
        scale_name(name): stored.scale,
        note_name(name): note(stored.format_name),
    }


def note(kind: str) -> Tensor:
    """The JSON for ComfyUI's loader, as bytes."""
    return note_of({"format": STORAGE_FORMATS[kind].note})


def note_of(content: Mapping[str, object]) -> Tensor:
    """Any JSON for ComfyUI's loader, as bytes."""
    return torch.tensor(list(json.dumps(dict(content)).encode()), dtype=torch.uint8)
