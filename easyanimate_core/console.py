"""Output that never ends the work: consoles of any encoding, without readers, or not there."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from typing import IO, Any

#: Windows says the second of a pipe that nobody reads any more.
_NOBODY_READS = (errno.EPIPE, errno.EINVAL) if sys.platform == "win32" else (errno.EPIPE,)
#: How Python treats what an encoding lacks, unless the user has chosen otherwise.
_DEFAULTS = ("strict", "surrogateescape")


class _Output(io.FileIO):
    """A descriptor that ends no work: what cannot be written is dropped, and `failure` says why.

    A reader that went away is no failure, and a terminal that was closed is one.
    """

    failure: OSError | None = None

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb")
        is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)  # a closed terminal is no tty
        self._nobody = (*_NOBODY_READS, errno.EIO) if is_device else _NOBODY_READS

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self._nobody:
                self.failure = error
            return len(data)


def prepare_streams() -> None:
    """Escape what the console's encoding lacks; go on when nobody reads any more, or ever did."""
    _occupy_descriptors()
    sys.stdout = _prepared(sys.stdout, sys.__stdout__)
    sys.stderr = _prepared(sys.stderr, sys.__stderr__)
    if isinstance(sys.stdin, io.TextIOWrapper):
        _escape(sys.stdin)


def output_failure() -> OSError | None:
    """Why what was printed is not all there, None where it is."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return None
    stream.flush()
    return getattr(_raw(stream), "failure", None)


def _occupy_descriptors() -> None:
    """Let no file become descriptor 0, 1 or 2: what libraries write to those would go into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:  # it takes the lowest that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _prepared(stream: Any, original: IO[str] | None) -> Any:
    if stream is None:  # without a console; libraries write to it all the same
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123
    if not isinstance(stream, io.TextIOWrapper):  # a host's own
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
