"""Weights in fewer bits than they are computed in."""

from .layers import is_quantized

__all__ = ["is_quantized"]
