"""Fingerprints of files that are too large to be hashed whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

#: Number and size in bytes of evenly spaced samples, and bytes at the beginning of the file.
_SAMPLES, _SAMPLE_BYTES, _HEAD_BYTES = 256, 4096, 2**18


def add_samples(digest: hashlib._Hash | hashlib.blake2b, file: Path) -> None:
    """Update `digest` with a file's size, its beginning and evenly spaced samples."""
    size = file.stat().st_size
    digest.update(str(size).encode())
    with file.open("rb") as opened:
        digest.update(opened.read(_HEAD_BYTES))
        for number in range(1, _SAMPLES + 1):
            opened.seek(max(0, (size - _SAMPLE_BYTES) * number // _SAMPLES))
            digest.update(opened.read(_SAMPLE_BYTES))
