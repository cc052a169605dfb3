"""Names of files that a text states: those that a file can have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import EasyAnimateError, InputError
from .shown import short

#: Of one part of a path, on every usual file system.
_MOST_BYTES = 255


def named_path(text: str, what: str, error: type[EasyAnimateError]) -> Path:
    """The path that a text names; `error` where no file can have it. `what` begins the message."""
    path = Path(text)
    fault = None
    if not text or "\0" in text:
        fault = "is empty" if not text else "holds a NUL character"
    else:
        try:
            longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
        except UnicodeEncodeError:
            fault = "holds half of a surrogate pair"
        else:
            if longest > _MOST_BYTES:
                fault = f"has a part of {longest} bytes, and names have {_MOST_BYTES} at most"
    if fault is not None:
        raise error(f"{what} is {short(text)}, which {fault}. Name another file.")
    return path


def check_is_text(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` for a name that no recipe and no record of a run could hold."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"The name {short(os.fspath(path))} is no text in UTF-8, so nothing that is written "
            "can name the file. Rename it."
        ) from None


def is_file(path: Path) -> bool:
    """Whether there is a file; False, and no error, for a name that none can have."""
    return _is(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    return _is(path, Path.is_dir)


def _is(path: Path, asked: Callable[[Path], bool]) -> bool:
    try:
        return asked(path)
    except (OSError, ValueError):
        return False
