"""Renders chats with a third-party model's chat template, a program, within limits.

The library runs it in a sandbox that does not limit its time or memory, so it runs in a process of
its own, which can be killed.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from ...errors import CheckpointError

#: Of which the first process needs some to import the library.
_SECONDS = 120
_MEMORY = 2**30
_MOST_CHARACTERS = 1_000_000

Messages = list[dict[str, Any]]


def render_chats(processor: Any, chats: Sequence[Messages]) -> list[str]:
    """Each chat as the model's input, up to where its answer starts.

    Raises:
        CheckpointError: The template fails, or takes more time or memory than any chat needs.
    """
    context = _clean_processes(processor)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_render, args=(sender, processor, chats), daemon=True)
    child.start()
    sender.close()
    try:
        is_done = receiver.poll(_SECONDS)
        texts, fault = receiver.recv() if is_done else ([], "it does not finish")
    except EOFError:
        texts, fault = [], "its process was killed"
    finally:
        child.kill()
        child.join()
    if fault:
        raise CheckpointError(
            f"The chat template of the captioning model cannot be run ({fault}). Download the "
            "model again, or use another one."
        )
    return texts


def _clean_processes(processor: Any) -> Any:
    """Starts processes that inherit no locks.

    A process forked from this one would inherit those that the model's and the readers' threads
    hold at that moment, and could wait for them forever. A server that has only imported the
    library forks without delay.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([type(processor).__module__])
    return context


def _render(sender: Connection, processor: Any, chats: Sequence[Messages]) -> None:
    texts, fault = [], ""
    try:
        _limit_memory()
        for chat in chats:
            texts.append(
                processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            )
            if len(texts[-1]) > _MOST_CHARACTERS:
                texts, fault = [], f"it produces {len(texts[-1]):,} characters"
                break
    except MemoryError:
        texts, fault = [], "it needs too much memory"
    except Exception as error:  # a template may raise anything
        texts, fault = [], f"{type(error).__name__}: {str(error)[:200]}"
    sender.send((texts, fault))
    sender.close()


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource
    from pathlib import Path

    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY, most))
