"""Captions as people store them: keys of entries, and text files beside the pictures and clips."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import DATASET_BYTES, read_text, short

#: Suffixes of caption files; kohya's scripts write the second.
CAPTION_SUFFIXES = (".txt", ".caption")

#: What other programs call them.
_TEXT_KEYS = (
    "caption", "captions", "texts", "prompt", "description", "tags", "label",
)  # fmt: skip
_PATH_KEYS = (
    "file_name", "filename", "path", "file", "video", "video_path", "image", "image_path",
    "media_path", "media",
)  # fmt: skip
#: How programs print a missing value.
_NOTHING = ("None", "null", "NULL", "nan", "NaN", "<NA>", "undefined")
#: As Python prints a list of texts, which each begin and end with quotes.
_PRINTED_LIST = re.compile(r"\[\s*(['\"]).*['\"]\s*\]", re.DOTALL)
_SHOWN = 5


def path_in(entry: object, where: str) -> str:
    """`file_path` of an entry; raises `InputError` that says which key holds it instead."""
    path = entry.get("file_path") if isinstance(entry, Mapping) else None
    if isinstance(path, str):
        return path
    if path is not None:
        raise InputError(f"{where} has file_path = {short(path)}; it must be the path of one file.")
    raise InputError(f"{where} is {short(entry)}; it needs a file_path.{_other(entry, _PATH_KEYS)}")


def text_in(entry: Mapping[str, Any], where: str) -> str:
    """`text` of an entry; raises `InputError` that says which key holds it instead."""
    if "text" not in entry:
        raise InputError(
            f"{where} has no text."
            + (_other(entry, _TEXT_KEYS) or ' Add one, or "text": "" to train it without words.')
        )
    return checked_text(entry["text"], f"{where} has text =")


def checked_text(value: object, where: str) -> str:
    """`value` if it is a caption; otherwise `InputError`, which begins with `where`."""
    if not isinstance(value, str):
        remedy = (
            "Join them, or write one entry for each"
            if isinstance(value, list | tuple)
            else 'Write the caption in quotes, or "" to train without words'
        )
        raise InputError(f"{where} {short(value)}; it must be text. {remedy}.")
    if value.strip() in _NOTHING:
        raise InputError(
            f"{where} {short(value)}, as programs print a missing value. Write the caption, or "
            "leave the file out."
        )
    if _is_printed_list(value.strip()):
        raise InputError(
            f"{where} {short(value)}, a list printed as text. Write one caption instead."
        )
    return value


def caption_beside(file: Path) -> Path | None:
    """The caption file of a picture or clip: the same name with .txt or .caption.

    Raises:
        InputError: There are two, with different texts.
    """
    found = [own for suffix in CAPTION_SUFFIXES if (own := file.with_suffix(suffix)).is_file()]
    if len(found) > 1 and len({caption_in(own) for own in found}) > 1:
        raise InputError(
            f"{file.name} has two captions, {' and '.join(own.name for own in found)}, which "
            "differ. Delete one of them."
        )
    return found[0] if found else None


def caption_in(file: Path) -> str:
    """The text of a caption file, without the spaces and line ends around it."""
    return read_text(file, error=InputError, limit=DATASET_BYTES).strip()


def renamed(columns: Sequence[str]) -> str:
    """Which columns of a table to rename, empty if none is known."""
    return " ".join(
        f"Rename {short(column)} to {wanted}."
        for column in columns
        for wanted, keys in (("file_path", _PATH_KEYS), ("text", _TEXT_KEYS))
        if column.lower() in keys
    )


def some(names: Sequence[str], shown: int = _SHOWN) -> str:
    """The first `shown` of `names`, for a message."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _other(entry: object, keys: Sequence[str]) -> str:
    held = [key for key in entry if str(key).lower() in keys] if isinstance(entry, Mapping) else []
    wanted = "text" if keys is _TEXT_KEYS else "file_path"
    return f" It has {short(held[0])}: rename that to {wanted}." if held else ""


def _is_printed_list(text: str) -> bool:
    return _PRINTED_LIST.fullmatch(text) is not None
