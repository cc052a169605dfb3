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
from types import FrameType
from typing import TypeVar

from ...console import prepare_streams
from ...errors import InputError
from ...progress import Progress, silent

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
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    try:
        for future in as_completed([pool.submit(_do, function, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            f"One of the {workers} workers was ended from outside, most often for lack of memory. "
            "Start again with fewer workers: what is done is kept."
        ) from error
    except BaseException:
        # What they write is removed by themselves; waiting for long jobs would be no end.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    import cv2

    prepare_streams()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _do(function: Callable[[J], R], job: J) -> R:
    try:
        return function(job)
    except SystemExit as end:  # what the job wrote is removed; the pool would give the next one
        os._exit(end.code if isinstance(end.code, int) else 1)


def _end(number: int, frame: FrameType | None) -> None:
    """End as any exception does: a file that is being written is removed."""
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _end_with_the_parent() -> None:
    """A pool's workers outlive a parent that was killed: they wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
