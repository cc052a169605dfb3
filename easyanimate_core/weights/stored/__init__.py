"""Weights in fewer bits than they are computed in."""

from .layers import is_quantized
from .storage import (
    STORAGE_FORMATS,
    PackedWeight,
    Stored,
    StoredWeight,
    StoredWeights,
    stored_format,
    to_storage,
)
from .weights import (
    QuantizedLinear,
    Quantizer,
    dequantized,
    plain_tensors,
    quantize,
    quantized_from_values,
    stored_bytes,
    use_quantized_layers,
)

__all__ = [
    "STORAGE_FORMATS",
    "PackedWeight",
    "QuantizedLinear",
    "Quantizer",
    "Stored",
    "StoredWeight",
    "StoredWeights",
    "dequantized",
    "is_quantized",
    "plain_tensors",
    "quantize",
    "quantized_from_values",
    "stored_bytes",
    "stored_format",
    "to_storage",
    "use_quantized_layers",
]
