"""Where things lie that can be made again."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from .moving import remove_tree


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
    atexit.register(_discard, folder)
    return folder


def _discard(folder: Path) -> None:
    with suppress(OSError):  # the process is at its end, and what it has mapped is its own still
        remove_tree(folder, wait=False)
