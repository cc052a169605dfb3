"""The MMDiT denoiser."""

from .choice import attention_of
from .compiled import check_compiles, compiled
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
    "attention_of",
    "bounded_attention",
    "check_compiles",
    "compiled",
    "rotary_table",
    "scaled_dot_product",
]
