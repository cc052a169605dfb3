"""Where files and networks meet."""

from .assign import Renamed, assign_tensors, check_complete, check_materialised, load_network
from .networks import load_transformer, load_vae

__all__ = [
    "Renamed",
    "assign_tensors",
    "check_complete",
    "check_materialised",
    "load_network",
    "load_transformer",
    "load_vae",
]
