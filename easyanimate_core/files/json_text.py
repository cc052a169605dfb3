"""The JSON reader, for files, metadata and JSON lines.

Besides invalid syntax it rejects what would fail later, elsewhere: nesting that exhausts the stack,
absurdly long numbers, conflicting duplicate keys, and strings that cannot be encoded (lone
surrogates).
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
#: For `"C:\Users"`, where JSON reads the backslash as the start of an escape sequence.
_BACKSLASHES = "In Windows paths, write / or \\\\ instead of \\."
#: `model_max_length` of published tokenizers has 31 digits.
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
    """Read a JSON file. Raises `error` with the file and what is wrong.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        kind: Required type of the value: `dict`, `list`, or `object` for any.
        error: The exception type to raise.
        remedy: What to do about a missing or damaged file, as a sentence.
        limit: Maximum size of the file in bytes.
        finite: Reject NaN, Infinity and numbers that overflow to infinity.
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
    """Parse JSON text, as `read_json` does; messages refer to it by `name`."""
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
        raise error(
            f"{name} is not valid JSON: it is nested too deeply. {remedy}".rstrip()
        ) from None
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
                raise ValueError(f"the key {short(key)} appears twice, with different values")
            seen[key] = item
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; at most {_DIGITS} are accepted")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number is {text[:_DIGITS]}, which is not finite")
    return value


def _check(value: Any) -> None:
    """Check the depth and the strings of a value, without recursion."""
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
        raise ValueError(f"the text {short(text)} contains a lone surrogate") from None
