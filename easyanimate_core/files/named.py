"""Names of files that a text states: those that a file can have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import EasyAnimateError, InputError
from .elsewhere import foreign_system, parts_of
from .shown import short

#: Of one part of a path, on every usual file system.
_MOST_BYTES = 255
_FIRST_PRINTED = 32


def named_path(
    text: str, what: str, error: type[EasyAnimateError], *, of_any_system: bool = False
) -> Path:
    """The path that a text names; `error` where no file can have it. `what` begins the message.

    With `of_any_system` it may be one of a disk of Windows on another system, and of its parts
    alone is asked whether they can be names.
    """
    fault = _fault(text, parts_of(text) if of_any_system else Path(text).parts)
    if fault is not None:
        raise error(f"{what} is {short(text)}, which {fault}. Name another file.")
    if not of_any_system and os.name != "nt" and foreign_system(text):
        raise error(
            f"{what} is {text}, which is a path of Windows. Name the file as this system does, "
            "with / between the folders."
        )
    return Path(text)


def _fault(text: str, parts: Sequence[str]) -> str | None:
    if not text or "\0" in text:
        return "is empty" if not text else "holds a NUL character"
    control = next((character for character in text if ord(character) < _FIRST_PRINTED), None)
    if control is not None:
        return (
            f"holds the control character {control!r}. Between double quotes \\ begins such a "
            "character: write / or \\\\ for it"
        )
    try:
        longest = max((len(os.fsencode(part)) for part in parts), default=0)
    except UnicodeEncodeError:
        return "holds half of a surrogate pair"
    if longest > _MOST_BYTES:
        return f"has a part of {longest} bytes, and names have {_MOST_BYTES} at most"
    return None


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


def by_name(path: str | os.PathLike[str]) -> Path:
    """The path, by the folder's own name where it is `.` or ends in `..`."""
    named = Path(path)
    return named if named.name not in ("", "..") else named.resolve()
