"""Weights in 8 bits with a scale: the arithmetic of the formats, and reading them back.

A weight [N, K] is `values * scale`, with one scale for the whole matrix or one per output channel
(row). The names in files are ComfyUI's, see `checkpoint.scaled`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...files import json_value, text_of
from ..files.scaled import SCALED_DTYPES, check_scales, note_name, scale_name
from ..files.tensor_files import TensorFiles, TensorInfo
from ..files.writer import ITEM_BYTES

#: What stored weights become where no dtype is asked for.
UNPACKED_DTYPE = torch.bfloat16


@dataclass(frozen=True)
class StorageFormat:
    """How weights are stored in 8 bits.

    Args:
        note: The format's word in `X.comfy_quant`. ComfyUI reads `float8_e4m3fn` with one scale
            since 0.8 and `int8_tensorwise` with one per channel in newer releases; fp8 with a scale
            per channel it does not know: that has a word of its own, so that it is not misread.
        dtype: Of the values.
        largest: The largest value that is used.
        per_channel: Whether every output channel has a scale of its own.
    """

    note: str
    dtype: torch.dtype
    largest: float
    per_channel: bool


STORAGE_FORMATS = {
    "fp8": StorageFormat("float8_e4m3fn", torch.float8_e4m3fn, 448.0, per_channel=False),
    "fp8-channel": StorageFormat(
        "float8_e4m3fn_channel", torch.float8_e4m3fn, 448.0, per_channel=True
    ),
    "int8": StorageFormat("int8_tensorwise", torch.int8, 127.0, per_channel=True),
}


@dataclass(frozen=True)
class ScaledWeight:
    """A weight [N, K] as it is stored: `values` in fp8 or int8, `scale` float32, () or [N, 1]."""

    values: Tensor
    scale: Tensor

    @property
    def shape(self) -> torch.Size:
        """Of the weight."""
        return self.values.shape

    @property
    def format_name(self) -> str:
        """A key of `STORAGE_FORMATS`."""
        if self.values.dtype == torch.int8:
            return "int8"
        return "fp8" if self.scale.numel() == 1 else "fp8-channel"

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight itself; the product is made in float32."""
        return (self.values.float() * self.scale).to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """As `Tensor.to`, dequantised; bfloat16 where no dtype is given."""
        return self.dequantize(dtype or UNPACKED_DTYPE).to(device=device)


@dataclass(frozen=True)
class PackedWeight:
    """A weight in GGUF's blocks, unpacked to float32 by `read` whenever it is asked for."""

    shape: torch.Size
    read: Callable[[], Tensor]

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight itself."""
        return self.read().to(dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """As `Tensor.to`, unpacked; bfloat16 where no dtype is given."""
        return self.dequantize(dtype or UNPACKED_DTYPE).to(device=device)


#: A tensor of a checkpoint in any of the ways that one can be stored.
Stored = Tensor | ScaledWeight | PackedWeight


class StoredWeights(Mapping[str, Stored]):
    """A component's weights by name, each as it is stored, scales beside their weights.

    Args:
        files: The component.
        mapped: Whether they may be kept, backed by their files; else each is read into memory.

    Raises:
        CheckpointError: A scale is missing or too many, or a weight is noted to be in a format that
            is not read here.
    """

    def __init__(self, files: TensorFiles, *, mapped: bool = True) -> None:
        check_scales(files, what=str(files.path))
        self._infos = files.weights
        self._tensors = files.map() if mapped else files.read()
        self._scaled = {name for name in self._infos if scale_name(name) in files}
        known = {kind.note for kind in STORAGE_FORMATS.values()}
        for name in self._scaled:
            note = note_name(name)
            _check_note(name, self._tensors[note] if note in files else None, known)
            if self._infos[name].dtype not in SCALED_DTYPES:
                raise CheckpointError(
                    f"{name} of {files.path} has a scale but is {self._infos[name].dtype}; scaled "
                    f"weights are {' or '.join(SCALED_DTYPES)}. Convert it again."
                )

    def __getitem__(self, name: str) -> Stored:
        info = self._infos[name]
        if name in self._scaled:
            scale = self._tensors[scale_name(name)].float()
            return ScaledWeight(self._tensors[name], _broadcast(scale, len(info.shape)))
        if is_packed(info):
            return PackedWeight(torch.Size(info.shape), lambda: self._tensors[name])
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)


def stored_format(files: Mapping[str, TensorInfo], name: str) -> str | None:
    """The key of `STORAGE_FORMATS` that a weight is stored in, from headers; None if it is not."""
    scale = files.get(scale_name(name))
    if scale is None:
        return None
    if files[name].dtype == "I8":
        return "int8"
    return "fp8" if scale.numel == 1 else "fp8-channel"


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


def is_packed(info: TensorInfo) -> bool:
    """Whether a tensor is stored in GGUF's blocks."""
    return info.dtype not in ITEM_BYTES


def read_note(tensor: Tensor) -> Mapping[str, object]:
    """The JSON in a note; empty where it is none."""
    try:
        text = text_of(bytes(tensor.tolist()), "The note", error=CheckpointError)
        return json_value(text, dict, "The note", error=CheckpointError)
    except (CheckpointError, TypeError, ValueError):  # bytes() of floats, or of numbers above 255
        return {}


def _check_note(name: str, tensor: Tensor | None, known: set[str]) -> None:
    if tensor is None:
        return
    content = read_note(tensor)
    stated = content.get("format")
    if stated not in known or content.get("convrot") or "params" in content:
        raise CheckpointError(
            f"{name} is stored as {json.dumps(dict(content))}; read here are "
            f"{', '.join(sorted(known))}. Convert the source again to one of them."
        )


def _broadcast(scale: Tensor, ndim: int) -> Tensor:
    """() for one value, [N, 1] for one per row."""
    return scale.reshape(()) if scale.numel() == 1 else scale.reshape(-1, *[1] * (ndim - 1))
