"""Validation of file names that come from text."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import EasyAnimateError, InputError
from .elsewhere import foreign_system, parts_of
from .shown import short

#: Limit for one path component on all common file systems.
_MOST_BYTES = 255
_FIRST_PRINTED = 32


def named_path(
    text: str, what: str, error: type[EasyAnimateError], *, of_any_system: bool = False
) -> Path:
    """The path in `text`; raises `error`, beginning with `what`, if no file can have that path.

    With `of_any_system` it may be a Windows path on another system; only its components are
    checked.
    """
    fault = _fault(text, parts_of(text) if of_any_system else Path(text).parts)
    if fault is not None:
        raise error(f"{what} is {short(text)}, which {fault}. Name another file.")
    if not of_any_system and os.name != "nt" and foreign_system(text):
        raise error(
            f"{what} is {text}, which is a Windows path. Use a path of this system, with / between "
            "the folders."
        )
    return Path(text)


def _fault(text: str, parts: Sequence[str]) -> str | None:
    if not text or "\0" in text:
        return "is empty" if not text else "contains a NUL character"
    control = next((character for character in text if ord(character) < _FIRST_PRINTED), None)
    if control is not None:
        return (
            f"contains the control character {control!r}. Inside double quotes \\ starts an escape "
            "sequence: write / or \\\\ instead"
        )
    try:
        longest = max((len(os.fsencode(part)) for part in parts), default=0)
    except UnicodeEncodeError:
        return "contains a lone surrogate"
    if longest > _MOST_BYTES:
        return f"has a component of {longest} bytes; file names have at most {_MOST_BYTES}"
    return None


def check_is_text(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` for a name that recipes and run records cannot store."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"The name {short(os.fspath(path))} is not valid UTF-8, so recipes and run records "
            "cannot refer to the file. Rename it."
        ) from None


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False, not an error, for an impossible name."""
    return _is(path, Path.is_file)


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False, not an error, for an impossible name."""
    return _is(path, Path.is_dir)


def _is(path: Path, asked: Callable[[Path], bool]) -> bool:
    try:
        return asked(path)
    except (OSError, ValueError):
        return False


def by_name(path: str | os.PathLike[str]) -> Path:
    """The path; resolved to the folder's real name if it is `.` or ends in `..`."""
    named = Path(path)
    return named if named.name not in ("", "..") else named.resolve()
