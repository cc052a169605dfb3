"""Ctrl-C, and the signals by which systems end a program: all of them clean up first."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Beside Ctrl-C: of `kill` and containers, of a terminal that is closed, of Ctrl-Break.
_ENDING = [
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
]


class Stop:
    """Whether the command was told to end, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def status(self) -> int:
        """What a shell gives a program that this signal ends: 130 of Ctrl-C, 143 of SIGTERM."""
        return 128 + (signal.SIGINT if self.signal is None else self.signal)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler: the command ends as after Ctrl-C. A second signal of the kind is ignored."""
        del frame
        if _pytorch_is_being_imported():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt


def _pytorch_is_being_imported() -> bool:
    """Then nothing has begun, and an exception could abort the process in native code."""
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Inside, a signal raises `KeyboardInterrupt`, and the `Stop` knows which it was.

    Signals that whoever started the program has switched off, as `nohup` does, stay off.
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
