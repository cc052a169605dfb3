"""Files on the disk: writing them whole, what may be written where, and the cache folder."""

from .atomic import atomic_file, atomic_folder, write_error
from .cache_folder import cache_folder, temporary_cache
from .leftovers import sweep
from .tensors import save_tensors
from .writing import Result, check_folder, check_results, check_writable

__all__ = [
    "Result",
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "check_folder",
    "check_results",
    "check_writable",
    "save_tensors",
    "sweep",
    "temporary_cache",
    "write_error",
]
