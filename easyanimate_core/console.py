"""Console output that never stops the work: any encoding, closed pipes, no console at all."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from typing import IO, Any

#: Errors of a pipe whose reader is gone; Windows may report EINVAL.
_NOBODY_READS = (errno.EPIPE, errno.EINVAL) if sys.platform == "win32" else (errno.EPIPE,)
#: Python's default error handlers, which are replaced; others are the user's choice.
_DEFAULTS = ("strict", "surrogateescape")


class _Output(io.FileIO):
    """A file that drops what it cannot write instead of raising; `failure` has the reason.

    A reader that has gone away, or a closed terminal, does not count as a failure.
    """

    failure: OSError | None = None

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb")
        is_device = stat.S_ISCHR(
            os.fstat(descriptor).st_mode
        )  # a closed terminal is not a tty any more
        self._nobody = (*_NOBODY_READS, errno.EIO) if is_device else _NOBODY_READS

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self._nobody:
                self.failure = error
            return len(data)


def prepare_streams() -> None:
    """Escape what the console cannot encode; survive closed and missing streams."""
    _occupy_descriptors()
    sys.stdout = _prepared(sys.stdout, sys.__stdout__)
    sys.stderr = _prepared(sys.stderr, sys.__stderr__)
    if isinstance(sys.stdin, io.TextIOWrapper):
        _escape(sys.stdin)


def output_failure() -> OSError | None:
    """Why some of the output was lost; None if none was."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return None
    stream.flush()
    return getattr(_raw(stream), "failure", None)


def _occupy_descriptors() -> None:
    """Keep files from becoming descriptor 0, 1 or 2, to which libraries write directly."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:  # the lowest free descriptor
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _prepared(stream: Any, original: IO[str] | None) -> Any:
    if stream is None:  # no console; libraries write to it regardless
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123
    if not isinstance(stream, io.TextIOWrapper):  # replaced by the host
        return stream
    _escape(stream)
    if stream is not original or not isinstance(_raw(stream), io.FileIO):
        return stream
    with suppress(OSError, ValueError):
        stream.flush()
        return io.TextIOWrapper(
            io.BufferedWriter(_Output(os.dup(stream.fileno()))),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering or stream.write_through,
        )
    return stream


def _escape(stream: io.TextIOWrapper) -> None:
    if stream.errors in _DEFAULTS:
        stream.reconfigure(errors="backslashreplace")


def _raw(stream: io.TextIOWrapper) -> Any:
    return getattr(stream.buffer, "raw", stream.buffer)
