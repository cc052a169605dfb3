"""Paths as strings, from any operating system."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SEPARATOR = re.compile(r"[/\\]+")
#: A drive, share or device: no path of another system begins like this.
_WINDOWS = re.compile(r"[A-Za-z]:[/\\]|\\\\|\\\?\?\\")
_IS_WINDOWS = os.name == "nt"


def parts_of(path: str) -> list[str]:
    """The components of a path in order, including a drive letter."""
    return [part for part in _SEPARATOR.split(path) if part not in ("", ".")]


def foreign_system(path: str, *, on_windows: bool = _IS_WINDOWS) -> str | None:
    """The system that an absolute path belongs to, if it cannot be this one; else None."""
    if on_windows:
        return "Linux or macOS" if re.match(r"/[^/\\]", path) else None
    return "Windows" if _WINDOWS.match(path) else None


def path_below(folder: Path, path: str) -> Path:
    r"""Resolve `path` relative to `folder`.

    Paths written on Windows may use `\` as the separator, which elsewhere is an ordinary character:
    a file whose name really contains it takes precedence.
    """
    literal = folder / path
    if "\\" not in path or os.path.lexists(literal):
        return literal
    meant = folder.joinpath(*parts_of(path))
    return meant if os.path.lexists(meant) else literal
