"""Paths as texts, of whatever system they come from."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SEPARATOR = re.compile(r"[/\\]+")
#: A drive's folder, or a share or a device: never the beginning of a path of another system.
_WINDOWS = re.compile(r"[A-Za-z]:[/\\]|\\\\|\\\?\?\\")
_IS_WINDOWS = os.name == "nt"


def parts_of(path: str) -> list[str]:
    """Names of folders and of the file, from the first to the last; of a drive its letter too."""
    return [part for part in _SEPARATOR.split(path) if part not in ("", ".")]


def foreign_system(path: str, *, on_windows: bool = _IS_WINDOWS) -> str | None:
    """Of whose disks a whole path is that cannot be of this machine; None of every other path."""
    if on_windows:
        return "Linux or macOS" if re.match(r"/[^/\\]", path) else None
    return "Windows" if _WINDOWS.match(path) else None


def path_below(folder: Path, path: str) -> Path:
    r"""The file of a path that is relative to `folder`.

    One that was written on Windows may have `\` between its names, which is a letter elsewhere: a
    file that is really called so comes first.
    """
    literal = folder / path
    if "\\" not in path or os.path.lexists(literal):
        return literal
    meant = folder.joinpath(*parts_of(path))
    return meant if os.path.lexists(meant) else literal
