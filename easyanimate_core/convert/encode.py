"""Converts a single weight from its stored format to the target's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..weights.files.scaled import note_name, scale_name
from ..weights.files.writer import ITEM_BYTES
from ..weights.stored import STORAGE_FORMATS, ScaledWeight, Stored
from ..weights.stored.pieces import over_pieces
from ..weights.stored.rounding import RowReader, joined, over_scaled, row_reader
from ..weights.stored.storage import as_tensors, note
from .fidelity import ErrorSums
from .target import TargetWeight

_TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
                 "BF16": torch.bfloat16}  # fmt: skip
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
    if isinstance(value, ScaledWeight) and not changes(value, weight):
        # Rounding again would only lose precision.
        yield from as_tensors(weight.target, value).items()
    elif isinstance(value, Tensor) and not changes(value, weight):
        yield weight.target, value
    elif weight.kind in STORAGE_FORMATS:
        yield from _scaled(value, weight, errors)
    elif weight.kind in ITEM_BYTES:
        for cast, sums in _cast(row_reader(value), weight):
            errors.add(sums)
            yield weight.target, cast
    else:
        whole = row_reader(value)(slice(None)).float()
        packed, back = _packed(whole, weight.kind)
        errors.add(ErrorSums.between(whole, back))
        yield weight.target, packed


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
    if isinstance(value, Tensor) and not value.is_floating_point():
        return False
    read = row_reader(value)
    # 65520 is halfway to the next value after the largest: anything below is rounded down.
    limit = _LARGEST_FP16 + 16

    def overflows(rows: slice) -> bool:
        piece = read(rows)
        if not piece.numel() or all(bound.abs() < limit for bound in piece.aminmax()):
            return False
        return bool(((piece.abs() >= limit) & piece.isfinite()).any())

    return any(over_pieces(overflows, value.shape or (1,)))


def _scaled(value: Stored, weight: TargetWeight, errors: ErrorSums) -> Iterator[tuple[str, Tensor]]:
    scales = []

    def compared(_: slice, before: Tensor, after: ScaledWeight) -> tuple[ScaledWeight, ErrorSums]:
        return after, ErrorSums.between(before, after.dequantize(torch.float32))

    try:
        for part, sums in over_scaled(row_reader(value), weight.shape, weight.kind, compared):
            errors.add(sums)
            scales.append(part.scale)
            yield weight.target, part.values
    except CheckpointError as error:
        raise CheckpointError(
            f"{weight.name} cannot be quantised. {error} The source is damaged: download it again."
        ) from error
    yield scale_name(weight.target), joined(scales)
    yield note_name(weight.target), note(weight.kind)


def _cast(read: RowReader, weight: TargetWeight) -> Iterator[tuple[Tensor, ErrorSums]]:
    """The pieces of a weight in a plain dtype, and the error of each."""

    def cast(rows: slice) -> tuple[Tensor, ErrorSums]:
        piece = read(rows)
        result = piece.to(_TORCH_DTYPES[weight.kind])
        return result, ErrorSums.between(piece, result)

    return over_pieces(cast, weight.shape or (1,))


def _packed(whole: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """GGUF blocks as bytes, and their dequantised values."""
    from gguf import GGMLQuantizationType, quants

    gguf_type = GGMLQuantizationType[kind]
    data = quants.quantize(np.ascontiguousarray(whole.numpy()), gguf_type)
    back = quants.dequantize(data, gguf_type).reshape(whole.shape)
    return torch.from_numpy(data), torch.from_numpy(back)
