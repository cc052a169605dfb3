"""Ctrl-C and termination signals, all of which clean up first."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: In addition to Ctrl-C: from `kill` and containers, a closed terminal, and Ctrl-Break.
_ENDING = [
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


class Stop:
    """Whether the command was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def status(self) -> int:
        """The exit status for the signal, as in a shell: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (signal.SIGINT if self.signal is None else self.signal)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: stop as after Ctrl-C. A second signal of the same kind is ignored."""
        del frame
        if _pytorch_is_being_imported():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt


def _pytorch_is_being_imported() -> bool:
    """Whether PyTorch is being imported, when an exception could abort the process."""
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Inside the block, a signal raises `KeyboardInterrupt`; the `Stop` records which one.

    Signals that were ignored when the program started, as with `nohup`, stay ignored.
    """
    stop = Stop()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *_ENDING):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
