"""The cache folder: for files that can be regenerated."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from pathlib import Path

from .moving import discard


def cache_folder(name: str) -> Path:
    """`name` in the EASYANIMATE_CACHE folder, by default ~/.cache/easyanimate.

    Without a home directory, a temporary folder of this process is used.
    """
    named = os.environ.get("EASYANIMATE_CACHE")
    try:
        root = Path(named).expanduser() if named else Path.home() / ".cache" / "easyanimate"
    except RuntimeError:  # neither HOME nor a passwd entry
        root = temporary_cache()
    return root / name


@functools.cache
def temporary_cache() -> Path:
    """A fallback for a cache that cannot be written, removed when the process exits.

    Raises `OSError` if there is no temporary folder either.
    """
    folder = Path(tempfile.mkdtemp(prefix="easyanimate-"))
    atexit.register(discard, folder)
    return folder
