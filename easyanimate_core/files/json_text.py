"""JSON: the one reader of it, for files, metadata and lines of records.

Beside the syntax it refuses what would fail later, somewhere else: nesting that exhausts the stack,
numbers beyond any use, two values under one key, and texts that no output can hold (half of a
surrogate pair).
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, TypeVar

from ..errors import EasyAnimateError
from .shown import short
from .text import MAX_BYTES, read_text

Value = TypeVar("Value")

_DEPTH = 64
#: Of `"C:\Users"`, in which JSON takes the backslash for the beginning of a character's code.
_BACKSLASHES = "In the paths of Windows write / or \\\\ for \\."
#: `model_max_length` of published tokenizers has 31.
_DIGITS = 100
_KINDS = {
    dict: "a JSON object", list: "a list", str: "text", bool: "true or false",
    int: "a whole number", float: "a number", type(None): "null",
}  # fmt: skip


def read_json(
    path: str | os.PathLike[str],
    kind: type[Value],
    *,
    error: type[EasyAnimateError],
    remedy: str = "",
    limit: int = MAX_BYTES,
    finite: bool = True,
) -> Value:
    """The value in a JSON file; an `error` names the file and what is wrong.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        kind: What the value must be: `dict`, `list`, or `object` for any.
        error: The type of error that is raised.
        remedy: What to do about a file that is missing or damaged, as a sentence.
        limit: Most bytes that are read.
        finite: Refuse NaN, Infinity and numbers that are as large.
    """
    text = read_text(path, error=error, remedy=remedy, limit=limit)
    return json_value(text, kind, os.fspath(path), error=error, remedy=remedy, finite=finite)


def json_value(
    text: str,
    kind: type[Value],
    name: str,
    *,
    error: type[EasyAnimateError],
    remedy: str = "",
    finite: bool = True,
) -> Value:
    """The value of JSON text, as `read_json`; `name` is what messages call the text."""
    if not text.strip():
        raise error(f"{name} is not valid JSON: it is empty. {remedy}".rstrip())
    number = _finite if finite else float
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=number,
            parse_constant=number,
        )
        _check(value)
    except RecursionError:
        raise error(f"{name} is not valid JSON: it is nested too deep. {remedy}".rstrip()) from None
    except ValueError as fault:
        told = _BACKSLASHES if "\\" in str(fault) else remedy
        raise error(f"{name} is not valid JSON: {fault}. {told}".rstrip()) from fault
    if not isinstance(value, kind):
        found, wanted = _KINDS[type(value)], _KINDS[kind]
        raise error(f"{name} holds {found}, not {wanted}. {remedy}".rstrip())
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: dict[str, Any] = {}
        for key, item in pairs:
            if key in seen and seen[key] != item:
                raise ValueError(f"the key {short(key)} is there twice, with different values")
            seen[key] = item
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; at most {_DIGITS} are read")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number is {text[:_DIGITS]}, which is not finite")
    return value


def _check(value: Any) -> None:
    """Depth and texts of a value, without recursion."""
    left = [(value, 0)]
    while left:
        item, depth = left.pop()
        if depth > _DEPTH:
            raise RecursionError
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            for key, below in item.items():
                _check_text(key)
                left.append((below, depth + 1))
        elif isinstance(item, list):
            left += [(below, depth + 1) for below in item]


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the text {short(text)} holds half of a surrogate pair") from None
