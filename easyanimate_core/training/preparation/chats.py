"""Renders chats with a third-party model's chat template, a program, within limits.

The library runs it in a sandbox that does not limit its time or memory, so it runs in a process of
its own, which can be killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from ...errors import CheckpointError

#: A forked process is ready at once; a spawned one imports the library first.
_SECONDS = {"fork": 20, "spawn": 120}
_MEMORY = 2**30
_MOST_CHARACTERS = 1_000_000

Messages = list[dict[str, Any]]


def render_chats(processor: Any, chats: Sequence[Messages]) -> list[str]:
    """Each chat as the model's input, up to where its answer starts.

    Raises:
        CheckpointError: The template fails, or takes more time or memory than any chat needs.
    """
    method = _start_method()
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_render, args=(sender, processor, chats), daemon=True)
    child.start()
    sender.close()
    try:
        is_done = receiver.poll(_SECONDS[method])
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


def _start_method() -> str:
    """Fork, which is faster, where it is available and no other method was chosen."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    return "fork" if sys.platform == "linux" and chosen in (None, "fork") else "spawn"


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
    os._exit(0)  # a forked process must not clean up what belongs to the parent's threads


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource
    from pathlib import Path

    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY, most))
