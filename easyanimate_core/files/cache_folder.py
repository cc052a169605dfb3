"""Where things lie that can be made again."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from pathlib import Path

from .moving import discard


def cache_folder(name: str) -> Path:
    """`name` in the folder that EASYANIMATE_CACHE names, or in ~/.cache/easyanimate.

    Without a home it is in a temporary folder of this process.
    """
    named = os.environ.get("EASYANIMATE_CACHE")
    try:
        root = Path(named).expanduser() if named else Path.home() / ".cache" / "easyanimate"
    except RuntimeError:  # neither HOME nor an entry of the user
        root = temporary_cache()
    return root / name


@functools.cache
def temporary_cache() -> Path:
    """A folder in the cache's place where that cannot be written; it goes with the process.

    Raises `OSError` where there is no temporary folder either.
    """
    folder = Path(tempfile.mkdtemp(prefix="easyanimate-"))
    atexit.register(discard, folder)
    return folder
