"""The hash of a file's content."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 2**22


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content as hexadecimal; `OSError` or `ValueError` if unreadable."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
