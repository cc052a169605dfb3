"""Offloading: where a network's weights are while it runs."""

from .placement import blocks_of, placed
from .streaming import lockable_memory, locked_bytes, streamed
from .weights import Weight, parts_of, rebuilt, weights_of

__all__ = [
    "Weight",
    "blocks_of",
    "lockable_memory",
    "locked_bytes",
    "parts_of",
    "placed",
    "rebuilt",
    "streamed",
    "weights_of",
]
