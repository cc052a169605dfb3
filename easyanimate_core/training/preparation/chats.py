"""Chats for a model of others, by the template in its folder: a program, run within limits.

The library runs it in a sandbox, which keeps it from the machine but not from looping or growing
without end; so it runs in a process of its own, which is ended.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from ...errors import CheckpointError

#: A forked process has everything; another imports the library first.
_SECONDS = {"fork": 20, "spawn": 120}
_MEMORY = 2**30
_MOST_CHARACTERS = 1_000_000

Messages = list[dict[str, Any]]


def render_chats(processor: Any, chats: Sequence[Messages]) -> list[str]:
    """Each chat as the model reads it, up to where its answer begins.

    Raises:
        CheckpointError: The template fails, or takes more time or memory than a chat can need.
    """
    method = _start_method()
    context: Any = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_render, args=(sender, processor, chats), daemon=True)
    child.start()
    sender.close()
    try:
        is_done = receiver.poll(_SECONDS[method])
        texts, fault = receiver.recv() if is_done else ([], "it does not end")
    except EOFError:
        texts, fault = [], "its process was ended"
    finally:
        child.kill()
        child.join()
    if fault:
        raise CheckpointError(
            f"The chat template of the captioning model cannot be run ({fault}). Download its "
            "folder again, or name another model's."
        )
    return texts


def _start_method() -> str:
    """A fork is quicker, where the system has it and nobody has chosen another way."""
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
                texts, fault = [], f"it makes {len(texts[-1]):,} characters"
                break
    except MemoryError:
        texts, fault = [], "it needs too much memory"
    except Exception as error:  # a template may raise anything
        texts, fault = [], f"{type(error).__name__}: {str(error)[:200]}"
    sender.send((texts, fault))
    sender.close()
    os._exit(0)  # a forked process has the parent's threads' leftovers to clean up: it must not


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource
    from pathlib import Path

    pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY, most))
