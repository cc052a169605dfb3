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
#: Files that a thread takes at once, where there are many: handing one over costs 0.1 ms.
_TAKEN, _MANY = 16, 1000


def in_threads(
    function: Callable[[J], R], jobs: Sequence[J], stage: str, progress: Progress
) -> list[R]:
    """The results of `function` for every job, in order. Reports `stage`."""
    progress(stage, 0, len(jobs))
    size = _TAKEN if len(jobs) >= _MANY else 1
    shares = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    results: list[R] = []
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    try:
        for share in pool.map(lambda share: [function(job) for job in share], shares):
            results += share
            progress(stage, len(results), len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    return results
