"""The MMDiT denoiser."""

from .attention import AttentionFunction, scaled_dot_product
from .model import AroundBlock, EasyAnimateTransformer3DModel, RunBlock
from .rope import RotaryTable, rotary_table

__all__ = [
    "AroundBlock",
    "AttentionFunction",
    "EasyAnimateTransformer3DModel",
    "RotaryTable",
    "RunBlock",
    "rotary_table",
    "scaled_dot_product",
]
