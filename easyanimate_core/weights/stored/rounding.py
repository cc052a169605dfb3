"""Rounds weights to the formats of `storage`, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...errors import CheckpointError
from .float8 import to_float32
from .pieces import Result, over_pieces
from .storage import STORAGE_FORMATS, PackedWeight, ScaledWeight, StorageFormat, Stored

#: Reads some rows of a weight.
RowReader = Callable[[slice], Tensor]


def row_reader(weight: Stored) -> RowReader:
    """Reads rows of a weight in float32 (of a float64 weight in float64), dequantized."""
    if isinstance(weight, ScaledWeight):
        values, scale = weight.values, weight.scale
        return lambda rows: to_float32(values[rows]) * (scale[rows] if scale.ndim else scale)
    plain = weight.read() if isinstance(weight, PackedWeight) else torch.atleast_1d(weight)
    if plain.dtype in (torch.float32, torch.float64):
        return plain.__getitem__
    return lambda rows: to_float32(plain[rows])


def to_storage(weight: Tensor, kind: str) -> ScaledWeight:
    """Convert a weight [N, K] to the format `kind`, a key of `STORAGE_FORMATS`.

    The largest value of the matrix (or of the row) becomes the format's largest. fp8 keeps every
    value to within 1/16 of itself, down to 1/28672 of the largest; int8 to within half a scale.

    Raises:
        CheckpointError: The weight contains NaN or infinite values.
    """
    dtype = STORAGE_FORMATS[kind].dtype
    values = torch.empty(weight.shape, dtype=dtype, device=weight.device)

    def keep(rows: slice, _: Tensor, part: ScaledWeight) -> Tensor:
        values[rows] = part.values
        return part.scale

    scales = list(over_scaled(row_reader(weight), weight.shape, kind, keep))
    return ScaledWeight(values, joined(scales))


def over_scaled(
    read: RowReader,
    shape: tuple[int, ...],
    kind: str,
    use: Callable[[slice, Tensor, ScaledWeight], Result],
) -> Iterator[Result]:
    """`use(rows, before, after)` of every piece of a weight, in order; see `to_storage`.

    Args:
        read: The weight, see `row_reader`.
        shape: Its shape, [N, K].
        kind: A key of `STORAGE_FORMATS`.
        use: Called on several threads with a piece in float32 and in the format. The scale is the
            piece's own, or that of the whole matrix.
    """
    how = STORAGE_FORMATS[kind]
    dims = tuple(range(1, len(shape))) if how.per_channel else ()

    def largest(part: Tensor) -> Tensor:
        low, high = (bound(dims, keepdim=how.per_channel) for bound in (part.amin, part.amax))
        return torch.maximum(high, low.neg_())

    whole = None
    if not how.per_channel:
        pieces = list(over_pieces(lambda rows: largest(read(rows).float()), shape))
        whole = _scale(torch.stack(pieces).amax(), how)

    def rounded(rows: slice) -> Result:
        before = read(rows).float()
        scale = _scale(largest(before), how) if whole is None else whole
        # No value is beyond the largest by more than is rounded off.
        values = before / scale
        if how.dtype == torch.int8:
            values.round_()
        return use(rows, before, ScaledWeight(values.to(how.dtype), scale))

    yield from over_pieces(rounded, shape)


def joined(scales: list[Tensor]) -> Tensor:
    """The scale of a whole weight from those of its pieces."""
    return torch.cat(scales) if scales[0].ndim else scales[0]


def check_finite(extent: Tensor) -> Tensor:
    """The largest values, or the ranges, of a weight's rows, if the weight is finite.

    Raises:
        CheckpointError: It contains NaN or infinite values.
    """
    if not extent.amax() < torch.inf:
        raise CheckpointError("It contains NaN or infinite values.")
    return extent


def _scale(largest: Tensor, how: StorageFormat) -> Tensor:
    return (check_finite(largest) / how.largest).clamp(min=torch.finfo(torch.float32).tiny)
