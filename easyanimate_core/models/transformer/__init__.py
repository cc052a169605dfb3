"""The MMDiT denoiser."""

from .kernel import AttentionFunction, bounded_attention, scaled_dot_product
from .model import AroundBlock, EasyAnimateTransformer3DModel, RunBlock
from .rope import RotaryTable, Stretch, rotary_table

__all__ = [
    "AroundBlock",
    "AttentionFunction",
    "EasyAnimateTransformer3DModel",
    "RotaryTable",
    "RunBlock",
    "Stretch",
    "bounded_attention",
    "rotary_table",
    "scaled_dot_product",
]
