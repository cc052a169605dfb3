"""The processes of one run: what they share, and how all of them end when one does."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from ..errors import ElsewhereError, InputError
from ..models.specs import Version

T = TypeVar("T")

#: In the store of the processes: how many of them have ended with an error.
_ENDED = "easyanimate/ended"
#: How PyTorch's ways to reach another process say that it is gone; NCCL alone has its own type.
_GONE = ("gloo/transport", "Connection closed by peer", "Connection reset by peer")


def share_of(accelerator: Any) -> slice:
    """What this process does of work that all share; `accelerator` None is one process."""
    if accelerator is None:
        return slice(None)
    return slice(accelerator.process_index, None, accelerator.num_processes)


def gathered(accelerator: Any, own: list[T]) -> list[T]:
    """What all processes have, the same in each of them."""
    if accelerator is None or accelerator.num_processes == 1:
        return own
    count = torch.tensor(len(own), device=accelerator.device)
    if not accelerator.reduce(count, "sum"):  # far quicker than to send nothing
        return []
    from accelerate.utils import gather_object

    return gather_object(own)


def common(accelerator: Any, own: list[int]) -> list[int]:
    """The numbers that every process has."""
    counts = Counter(gathered(accelerator, own))
    return [number for number in own if counts[number] == accelerator.num_processes]


def allow_unused(accelerator: Any, network: nn.Module) -> None:
    """Let processes agree on a V5 denoiser, whose last block makes states that nothing reads.

    Otherwise they would wait for the gradients of those weights, which never come.
    """
    from accelerate.utils import DistributedDataParallelKwargs

    if getattr(getattr(network, "config", None), "version", None) is Version.V5:
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)


def is_first_process() -> bool:
    """Whether this is the process that speaks for the run; a launcher says which one it is."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def told_once() -> Iterator[None]:
    """Let the first process of each machine say what is wrong, before they are connected.

    Raises:
        ElsewhereError: This is another process, and something is wrong.
    """
    try:
        yield
    except BaseException as error:
        if not _is_first_here():
            raise ElsewhereError("The first process of this machine says why.") from error
        raise


@contextmanager
def ending_together() -> Iterator[None]:
    """Let the first process that fails in the block say why, and the others end without a word.

    Those miss it at the next thing that they do together. The processes' connection is closed at
    the end of the block.

    Raises:
        ElsewhereError: Another process has ended before.
        InputError: Another process was ended from outside.
    """
    try:
        yield
    except BaseException as error:
        several, is_first = _are_connected(), _is_first_to_end()
        if several and not _waits_for_all():
            _part()
        if not is_first:
            raise ElsewhereError("Another process of the run has ended and says why.") from error
        if several and _is_about_another(error):
            raise InputError(
                "Another process of this run was ended from outside, most often for lack of "
                "memory. Start the run again: it resumes from its last state."
            ) from error
        raise
    else:
        if _are_connected():
            _part()


def _is_first_here() -> bool:
    """Whether this process is the first of its machine, whose files may be others."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _are_connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _is_first_to_end() -> bool:
    if not _are_connected():
        return _is_first_here()
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        return bool(_get_default_store().add(_ENDED, 1) == 1)
    except RuntimeError:  # the process that keeps the store is gone
        return True


def _is_about_another(error: BaseException) -> bool:
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, distributed.DistError) or any(said in str(error) for said in _GONE)


def _waits_for_all() -> bool:
    """Whether to part takes every process, which is not certain after an error."""
    return bool(distributed.get_backend() == "nccl")


def _part() -> None:
    """Close the connection, and end its threads: one that is busy at exit may abort the process."""
    distributed.destroy_process_group()
    gc.collect()  # what the run left may keep a group, whose threads end with it
