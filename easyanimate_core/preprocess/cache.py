"""An in-memory cache of results, so that a clip is not processed twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor


class ResultCache:
    """An LRU cache of at most `max_bytes`. A larger result is not cached."""

    def __init__(self, max_bytes: int = 512 * 2**20) -> None:
        self.max_bytes = max_bytes
        self._results: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        """Total size of the results."""
        return sum(result.nbytes for result in self._results.values())

    def get(self, key: str) -> Tensor | None:
        """A copy of a result, which the caller may modify, or None."""
        result = self._results.get(key)
        if result is None:
            return None
        self._results.move_to_end(key)
        return result.clone()

    def put(self, key: str, result: Tensor) -> None:
        """Store a copy of a result, evicting the least recently used ones."""
        if result.nbytes > self.max_bytes:
            return
        self._results.pop(key, None)
        while self._results and self.num_bytes + result.nbytes > self.max_bytes:
            self._results.popitem(last=False)
        self._results[key] = result.clone()


def result_key(frames: Tensor, settings: object, files: Mapping[str, Path]) -> str:
    """A hash of the frames, the settings, and each file's path, time and size."""
    pixels = np.ascontiguousarray(frames.detach().cpu().float().numpy())
    digest = hashlib.blake2b(pixels.data, digest_size=32)
    stats = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files.values()]
    digest.update(repr((pixels.shape, settings, stats)).encode())
    return digest.hexdigest()
