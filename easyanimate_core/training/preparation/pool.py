"""Runs independent jobs in several processes."""

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
    """The results of `function` for every job, in order of completion.

    A single worker is this process. More are separate processes, for which `function` and the jobs
    must be picklable. Each worker has one OpenCV thread.

    Raises:
        InputError: `workers` is below 1, or a worker was killed.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1.")
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
    # A fork would copy the locks of PyTorch's threads in whatever state they are in.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    try:
        for future in as_completed([pool.submit(_do, function, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            f"One of the {workers} workers was killed, most often for lack of memory. Start again "
            "with fewer workers: finished work is kept."
        ) from error
    except BaseException:
        # They remove partial files themselves; waiting for long jobs would take too long.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    import cv2

    prepare_streams()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _do(function: Callable[[J], R], job: J) -> R:
    try:
        return function(job)
    except (
        SystemExit
    ) as end:  # the job's partial file is removed; the pool would start the next job
        os._exit(end.code if isinstance(end.code, int) else 1)


def _end(number: int, frame: FrameType | None) -> None:
    """Exit by an exception, so that a file being written is removed."""
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _end_with_the_parent() -> None:
    """Exit when the parent dies: otherwise a pool's workers wait for jobs forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
