"""Formats untrusted values for messages: short, on one line, without control characters."""

from __future__ import annotations

import reprlib
from typing import Any

_LENGTH = 80


def short(value: Any, length: int = _LENGTH) -> str:
    """`repr(value)`, with the middle cut out if it is long."""
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = shortened.maxlong = length
    text = shortened.repr(value)
    if len(text) <= length:
        return text
    return f"{text[: length - 4]}...{text[-1]}"
