"""Weights in fewer bits than they are computed in."""

from .layers import is_quantized
from .weights import (
    QuantizedLinear,
    Quantizer,
    plain_tensors,
    quantize,
    quantized_from_values,
    stored_bytes,
)

__all__ = [
    "QuantizedLinear",
    "Quantizer",
    "is_quantized",
    "plain_tensors",
    "quantize",
    "quantized_from_values",
    "stored_bytes",
]
