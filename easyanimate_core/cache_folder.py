"""Where things lie that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """`name` in the folder that EASYANIMATE_CACHE names, or in ~/.cache/easyanimate."""
    named = os.environ.get("EASYANIMATE_CACHE")
    root = Path(named).expanduser() if named else Path.home() / ".cache" / "easyanimate"
    return root / name
