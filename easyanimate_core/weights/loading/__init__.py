"""Loading files into networks."""

from .assign import (
    Renamed,
    assign_tensors,
    build_on_meta,
    check_complete,
    check_materialised,
    load_network,
)
from .checkpoint import check_weights, load_transformer, load_vae

__all__ = [
    "Renamed",
    "assign_tensors",
    "build_on_meta",
    "check_complete",
    "check_materialised",
    "check_weights",
    "load_network",
    "load_transformer",
    "load_vae",
]
