"""Detects what was saved instead of the file: a git-lfs pointer or a web page."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from .commands import own_command

#: Bytes to look at: a pointer is three short lines.
START_BYTES = 1024
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(rb"\s*(?:<!doctype html|<html|<\?xml)", re.IGNORECASE)


class StandIn(NamedTuple):
    """What the file is, as the rest of a sentence, and the remedy."""

    what: str
    remedy: str


def stand_in(start: bytes, path: str | os.PathLike[str]) -> StandIn | None:
    """What a file that begins with `start` is, if it is not the real file; else None."""
    if start.startswith(_POINTER):
        return _pointer(start, path)
    if _PAGE.match(start):
        return StandIn(
            "is a web page, not the file: the file's page was saved, or a server sent one",
            "Use the page's download button, or the address with /resolve/ instead of /blob/.",
        )
    return None


def _pointer(start: bytes, path: str | os.PathLike[str]) -> StandIn:
    size = re.search(rb"^size (\d+)$", start[:START_BYTES], re.MULTILINE)
    stands = f" of {int(size[1][:20]):,} bytes" if size else ""
    remedy = "Download the file itself"
    root = _clone(path)
    if root is not None:
        remedy = f'Install git-lfs and run: git -C "{root}" lfs pull - or download the file itself'
    return StandIn(
        f"is a git-lfs pointer to a file{stands}, not the file: it was cloned or packed without "
        "git-lfs",
        f"{remedy}: from its page, with hf download, or for a published checkpoint with: "
        f"{own_command('download')}",
    )


def _clone(path: str | os.PathLike[str]) -> Path | None:
    """The git checkout that contains a file."""
    try:
        parents = Path(path).resolve().parents
        return next((folder for folder in parents if (folder / ".git").exists()), None)
    except (OSError, ValueError, RuntimeError):  # an impossible file name
        return None
