"""Output that never ends a command: consoles of any encoding, and readers that went away."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import IO, Any

#: Windows says the second of a pipe that nobody reads any more.
_NOBODY_READS = (errno.EPIPE, errno.EINVAL) if sys.platform == "win32" else (errno.EPIPE,)
#: How Python treats what an encoding lacks, unless the user has chosen otherwise.
_DEFAULTS = ("strict", "surrogateescape")


class _Pipe(io.FileIO):
    """A descriptor that ends no work: what cannot be written is dropped, and `failure` says why.

    A reader that went away is no failure.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                self.failure = error
            return len(data)


def prepare_streams() -> None:
    """Escape what the console's encoding lacks; go on when nobody reads any more."""
    sys.stdout = _prepared(sys.stdout, sys.__stdout__)
    sys.stderr = _prepared(sys.stderr, sys.__stderr__)


def output_failure() -> OSError | None:
    """Why what was printed is not all there, None where it is."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return None
    stream.flush()
    return getattr(_raw(stream), "failure", None)


def _prepared(stream: Any, original: IO[str] | None) -> Any:
    if not isinstance(stream, io.TextIOWrapper):  # none, or a host's own
        return stream
    errors = "backslashreplace" if stream.errors in _DEFAULTS else stream.errors
    raw = _raw(stream)
    if stream is not original or not isinstance(raw, io.FileIO) or raw.isatty():
        stream.reconfigure(errors=errors)
        return stream
    with suppress(OSError, ValueError):
        stream.flush()
        pipe = _Pipe(os.dup(stream.fileno()), "wb")
        return io.TextIOWrapper(
            io.BufferedWriter(pipe),
            encoding=stream.encoding,
            errors=errors,
            line_buffering=stream.line_buffering or stream.write_through,
        )
    return stream


def _raw(stream: io.TextIOWrapper) -> Any:
    return getattr(stream.buffer, "raw", stream.buffer)
