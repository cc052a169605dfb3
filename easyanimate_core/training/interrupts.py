"""Ctrl-C and termination signals during a step: followed once the step is finished."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]
_SAID = b"\nStopping after this step, to save it. Ctrl-C again, in a few seconds, stops at once.\n"
#: Another Ctrl-C within so many seconds is the same: a launcher sends on what a terminal has sent.
_SAME = 3.0


class Interrupts:
    """Holds signals back inside a `with` block, if the program handles them itself.

    An optimiser that is interrupted half-way leaves weights that belong to no step. A second Ctrl-C
    some seconds later is not held back. One process of a run `says` that it has heard.
    """

    def __init__(self, *, says: bool = True) -> None:
        self._says = says
        self._since = 0.0
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._number: int | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal arrived."""
        return self._number is not None

    def interruption(self, message: str) -> BaseException:
        """The signal as an exception, after the program's own handler has been told."""
        if self._number is not None:
            with suppress(KeyboardInterrupt):
                self._before[self._number](self._number, None)
        return KeyboardInterrupt(message)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._number is None:
            self._number, self._since = number, now
            if self._says:
                os.write(2, _SAID)  # printing is not safe in the middle of another print
        elif number == signal.SIGINT and now - self._since >= _SAME:
            self._before[number](number, frame)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._hold)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
