"""The folder names of kohya's trainers: `10_name` means that its files are drawn ten times."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

#: More is a date or a number of something else.
MOST_REPEATS = 1000

_NUMBERED = re.compile(r"(\d{1,9})_.")


def numbered_folder(path: str) -> tuple[str, int] | None:
    """The folder that a file lies in and the number before its name, None if it has none."""
    name = PurePosixPath(path.replace("\\", "/")).parent.name
    match = _NUMBERED.match(name)
    return (name, int(match[1])) if match else None


def repeats_of(path: str) -> int:
    """How often a file is drawn per epoch, by the name of its folder; 1 if it does not say."""
    found = numbered_folder(path)
    return found[1] if found and 1 <= found[1] <= MOST_REPEATS else 1
