"""The MMDiT denoiser."""

from .attention import AttentionFunction, scaled_dot_product
from .model import EasyAnimateTransformer3DModel
from .rope import RotaryTable, rotary_table

__all__ = [
    "AttentionFunction",
    "EasyAnimateTransformer3DModel",
    "RotaryTable",
    "rotary_table",
    "scaled_dot_product",
]
