"""Works on a matrix a few rows at a time, on several threads.

A piece stays in a core's cache from the first pass over it to the last, and every thread computes
its pieces alone: PyTorch's own threads would wait for each other after every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeVar

import torch

#: Values of a piece: 1 MiB in float32.
PIECE_VALUES = 256 * 1024

Result = TypeVar("Result")


def row_pieces(shape: tuple[int, ...]) -> list[slice]:
    """The rows of each piece of a tensor with at least one dimension; one piece if it is empty."""
    length, step = shape[0], max(1, PIECE_VALUES // max(1, prod(shape[1:])))
    starts = range(0, length, step) if length else (0,)
    return [slice(start, min(start + step, length)) for start in starts]


def over_pieces(work: Callable[[slice], Result], shape: tuple[int, ...]) -> Iterator[Result]:
    """`work(rows)` of every piece of a tensor, in order, on as many threads as PyTorch uses."""
    pieces, threads = row_pieces(shape), torch.get_num_threads()
    if len(pieces) == 1 or threads == 1:
        yield from map(work, pieces)
        return
    inference = torch.is_inference_mode_enabled()

    def run(rows: slice) -> Result:
        with torch.inference_mode(inference):  # a mode of the thread
            return work(rows)

    pool = ThreadPoolExecutor(
        min(threads, len(pieces)), "pieces", initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        yield from pool.map(run, pieces)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # also what threads started from now on begin with
