"""Weights stored in fewer bits than the compute dtype."""

from .layers import may_be_quantized
from .linear import QuantizedLinear, dequantized, use_quantized_layers
from .quantized import (
    Quantizer,
    plain_tensors,
    quantize,
    quantized_from_values,
    stored_bytes,
)
from .reader import StoredWeights, stored_format
from .rounding import to_storage
from .storage import STORAGE_FORMATS, PackedWeight, ScaledWeight, Stored

__all__ = [
    "STORAGE_FORMATS",
    "PackedWeight",
    "QuantizedLinear",
    "Quantizer",
    "ScaledWeight",
    "Stored",
    "StoredWeights",
    "dequantized",
    "may_be_quantized",
    "plain_tensors",
    "quantize",
    "quantized_from_values",
    "stored_bytes",
    "stored_format",
    "to_storage",
    "use_quantized_layers",
]
