"""Ctrl-C and termination signals during a step: followed once the step is finished."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]
_SAID = b"\nStopping after this step, to save it. Ctrl-C again stops at once.\n"


class Interrupts:
    """Holds signals back inside a `with` block, if the program handles them itself.

    An optimiser that is interrupted half-way leaves weights that belong to no step. A second Ctrl-C
    is not held back.
    """

    def __init__(self) -> None:
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
        if self._number is not None and number == signal.SIGINT:
            self._before[number](number, frame)
        if self._number is None:
            self._number = number
            os.write(2, _SAID)  # printing is not safe in the middle of another print

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
