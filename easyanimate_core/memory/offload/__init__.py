"""Offloading: where a network's weights are while it runs."""

from .placement import blocks_of, placed
from .streaming import streamed
from .weights import Weight, parts_of, rebuilt, weights_of

__all__ = [
    "Weight",
    "blocks_of",
    "parts_of",
    "placed",
    "rebuilt",
    "streamed",
    "weights_of",
]
