"""Weights in fewer bits than they are computed in."""

from .layers import is_quantized
from .storage import (
    STORAGE_FORMATS,
    PackedWeight,
    Stored,
    StoredWeight,
    StoredWeights,
    quantize,
)

__all__ = [
    "STORAGE_FORMATS",
    "PackedWeight",
    "Stored",
    "StoredWeight",
    "StoredWeights",
    "is_quantized",
    "quantize",
]
