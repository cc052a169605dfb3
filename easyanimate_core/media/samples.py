"""Fingerprints of files, of which only the small ones are hashed whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

#: Number and size in bytes of evenly spaced samples, and bytes at the beginning of the file.
_SAMPLES, _SAMPLE_BYTES, _HEAD_BYTES = 256, 4096, 2**18
_BLOCK_BYTES = 2**20


def add_samples(
    digest: hashlib._Hash | hashlib.blake2b, file: Path, samples: int | None = _SAMPLES
) -> None:
    """Update `digest` with a file's size and content; a large one is sampled, None: read whole."""
    with file.open("rb", buffering=0) as opened:
        size = os.fstat(opened.fileno()).st_size
        digest.update(str(size).encode())
        if samples is None or size <= _HEAD_BYTES + samples * _SAMPLE_BYTES:
            while block := opened.read(_BLOCK_BYTES):
                digest.update(block)
            return
        digest.update(opened.read(_HEAD_BYTES))
        for number in range(1, samples + 1):
            opened.seek(max(0, (size - _SAMPLE_BYTES) * number // samples))
            digest.update(opened.read(_SAMPLE_BYTES))
