"""Reads many files at once: decoders and hashes run beside each other in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...progress import Progress

J = TypeVar("J")
R = TypeVar("R")

#: Files that are read at once, at most: a photo of 12 megapixels takes 150 MB while it is.
_THREADS = 8


def in_threads(
    function: Callable[[J], R], jobs: Sequence[J], stage: str, progress: Progress
) -> list[R]:
    """The results of `function` for every job, in order. Reports `stage`."""
    progress(stage, 0, len(jobs))
    results = []
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        for done, result in enumerate(pool.map(function, jobs), start=1):
            results.append(result)
            progress(stage, done, len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    return results
