"""`~` in paths that people write."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder for `~`; a name such as ~name that is nobody's stays."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (a Path's own raises for those)
