"""Converts a single weight from its stored format to the target's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..weights.files.writer import ITEM_BYTES
from ..weights.stored import STORAGE_FORMATS, ScaledWeight, Stored, to_storage
from ..weights.stored.storage import as_tensors
from .fidelity import ErrorSums
from .target import TargetWeight

_TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
                 "BF16": torch.bfloat16}  # fmt: skip
#: Values cast at once; a text encoder's embedding table is too large for a temporary copy.
_VALUES_AT_ONCE = 1 << 25
_LARGEST_FP16 = torch.finfo(torch.float16).max


def encode(value: Stored, weight: TargetWeight, errors: ErrorSums) -> Iterator[tuple[str, Tensor]]:
    """The pieces of the target's tensors in order: (name in the file, values).

    Args:
        value: The weight as stored in the source.
        weight: Its target format.
        errors: Receives every piece before and after, unless nothing changes.

    Raises:
        CheckpointError: A weight to be quantised contains infinities or NaN.
    """
    if weight.kind in STORAGE_FORMATS:
        yield from as_tensors(weight.target, _scaled(value, weight, errors)).items()
    elif weight.kind not in ITEM_BYTES:
        whole = _plain(value)
        packed, back = _packed(whole, weight.kind)
        errors.add(whole, back)
        yield weight.target, packed
    else:
        whole = value if isinstance(value, Tensor) else _plain(value)
        dtype = _TORCH_DTYPES.get(weight.kind, whole.dtype)
        for piece in _pieces(whole):
            cast = piece.to(dtype)
            if dtype != piece.dtype or not isinstance(value, Tensor):
                errors.add(piece, cast)
            yield weight.target, cast


def changes(value: Stored, weight: TargetWeight) -> bool:
    """Whether the target's bytes differ from the source's."""
    if isinstance(value, ScaledWeight):
        return value.format_name != weight.kind
    if isinstance(value, Tensor):
        return _TORCH_DTYPES.get(weight.kind, value.dtype) != value.dtype or (
            weight.kind not in ITEM_BYTES
        )
    return True


def overflows_fp16(value: Stored) -> bool:
    """Whether a finite value would become infinite in float16."""
    whole = value if isinstance(value, Tensor) else _plain(value)
    # 65520 is halfway to the next value after the largest: anything below is rounded down.
    limit = _LARGEST_FP16 + 16
    for piece in _pieces(whole):
        if not piece.is_floating_point() or not piece.numel() or piece.abs().max() < limit:
            continue
        if bool(((piece.abs() >= limit) & piece.isfinite()).any()):
            return True
    return False


def _scaled(value: Stored, weight: TargetWeight, errors: ErrorSums) -> ScaledWeight:
    if isinstance(value, ScaledWeight) and value.format_name == weight.kind:
        return value  # rounding again would only lose precision
    whole = _plain(value)
    try:
        stored = to_storage(whole, weight.kind)
    except CheckpointError as error:
        raise CheckpointError(
            f"{weight.name} cannot be quantised. {error} The source is damaged: download it again."
        ) from error
    errors.add(whole, stored.dequantize(torch.float32))
    return stored


def _packed(whole: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """GGUF blocks as bytes, and their dequantised values."""
    from gguf import GGMLQuantizationType, quants

    gguf_type = GGMLQuantizationType[kind]
    data = quants.quantize(np.ascontiguousarray(whole.numpy()), gguf_type)
    back = quants.dequantize(data, gguf_type).reshape(whole.shape)
    return torch.from_numpy(data), torch.from_numpy(back)


def _plain(value: Stored) -> Tensor:
    return value.float() if isinstance(value, Tensor) else value.dequantize(torch.float32)


def _pieces(whole: Tensor) -> Iterator[Tensor]:
    if whole.ndim == 0 or whole.numel() <= _VALUES_AT_ONCE:
        yield whole
        return
    rows = max(1, _VALUES_AT_ONCE * whole.shape[0] // whole.numel())
    yield from whole.split(rows)
