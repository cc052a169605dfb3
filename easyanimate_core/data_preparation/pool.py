"""Independent jobs on several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from ..errors import InputError
from ..progress import Progress, silent

J = TypeVar("J")
R = TypeVar("R")


def each(
    function: Callable[[J], R],
    jobs: Sequence[J],
    *,
    workers: int,
    stage: str,
    progress: Progress = silent,
) -> Iterator[R]:
    """`function` of every job, as they are finished.

    One worker is this process. More are processes of their own; `function` and its jobs must then
    be picklable. A worker has one OpenCV thread.

    Raises:
        InputError: `workers` is below 1, or a worker was ended from outside.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; at least 1 is needed.")
    progress(stage, 0, len(jobs))
    results = (
        _alone(function, jobs)
        if workers == 1 or len(jobs) < 2
        else _parallel(function, jobs, min(workers, len(jobs)))
    )
    for done, result in enumerate(results, start=1):
        yield result
        progress(stage, done, len(jobs))


def _alone(function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[R]:
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from map(function, jobs)
    finally:
        cv2.setNumThreads(threads)


def _parallel(function: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[R]:
    # A fork would copy the locks of PyTorch's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    try:
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            f"One of the {workers} workers was ended from outside, most often for lack of memory. "
            "Start again with fewer workers: what is done is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    """A pool's workers outlive a parent that was killed: they wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
