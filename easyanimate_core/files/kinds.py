"""Detects what kind a file is, by its first bytes or JSON keys, before it is overwritten."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError
from .json_text import read_json
from .text import DATASET_BYTES

_HEAD = 4096


def is_mp4(path: Path) -> bool:
    """Whether it is an MP4 or a related format."""
    return _head(path)[4:8] == b"ftyp"


def is_png(path: Path) -> bool:
    """Whether it is a PNG image."""
    return _head(path).startswith(b"\x89PNG\r\n\x1a\n")


def is_html(path: Path) -> bool:
    """Whether it is an HTML page."""
    return b"<html" in _head(path).lower() or _head(path).lower().startswith(b"<!doctype html")


def text_with(words: str) -> Callable[[Path], bool]:
    """A test for text files with `words` near the start."""
    return lambda path: words.encode() in _head(path)


def is_gguf(path: Path) -> bool:
    """Whether it is a GGUF file."""
    return _head(path).startswith(b"GGUF")


def is_safetensors(path: Path) -> bool:
    """Whether it is a safetensors file: a JSON header preceded by its length."""
    head = _head(path)
    return len(head) > 8 and struct.unpack("<Q", head[:8])[0] < 2**32 and head[8:9] == b"{"


def json_with(*keys: str) -> Callable[[Path], bool]:
    """A test for JSON objects that have all `keys`."""
    return lambda path: isinstance(value := _json(path), dict) and value.keys() >= set(keys)


def json_list_of(*keys: str) -> Callable[[Path], bool]:
    """A test for JSON lists whose entries are objects with all `keys`."""

    def is_one(path: Path) -> bool:
        value = _json(path)
        return isinstance(value, list) and all(
            isinstance(item, dict) and item.keys() >= set(keys) for item in value
        )

    return is_one


def _json(path: Path) -> Any:
    try:
        return read_json(path, object, error=InputError, limit=DATASET_BYTES)
    except InputError:
        return None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
