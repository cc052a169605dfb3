"""Text files: UTF-8, with or without a byte order mark, limited in size."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import EasyAnimateError
from .shown import short
from .stand_ins import START_BYTES, stand_in

#: Default limit: an index of shards takes 0.1 MB.
MAX_BYTES = 16 * 2**20
#: Limit for files that grow with a dataset: a million captions take about 300 MB.
DATASET_BYTES = 512 * 2**20

_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF_8_MARK = b"\xef\xbb\xbf"
#: In UTF-16 text of mostly ASCII, half of the bytes are NUL; a stray NUL must not count.
_UTF_16_NULS = 0.2


def read_text(
    path: str | os.PathLike[str],
    *,
    error: type[EasyAnimateError],
    remedy: str = "",
    limit: int = MAX_BYTES,
) -> str:
    r"""Read a text file with `\n` as line ends. Raises `error` with the file and the fault."""
    content = read_bytes(path, error=error, remedy=remedy, limit=limit)
    return text_of(content, os.fspath(path), error=error, remedy=remedy)


def read_bytes(
    path: str | os.PathLike[str],
    *,
    error: type[EasyAnimateError],
    remedy: str = "",
    limit: int = MAX_BYTES,
) -> bytes:
    """Read a file of at most `limit` bytes. Raises `error` with the file and the fault."""
    try:
        with Path(path).open("rb") as opened:
            content = opened.read(limit + 1)
    except FileNotFoundError:
        raise error(_told(path, "it does not exist", remedy)) from None
    except IsADirectoryError:
        raise error(_told(path, "it is a folder", remedy)) from None
    except OSError as fault:
        raise error(_told(path, fault.strerror or str(fault), remedy)) from fault
    except ValueError as fault:  # a NUL or a lone surrogate in the name
        raise error(
            _told(short(os.fspath(path)), f"no file can have this name ({fault})", remedy)
        ) from None
    if len(content) > limit:
        raise error(
            _told(path, f"it is larger than {limit:,} bytes, the limit for its kind", remedy)
        )
    return content


def text_of(content: bytes, name: str, *, error: type[EasyAnimateError], remedy: str = "") -> str:
    r"""Decode a file's content, with `\n` as line ends; messages refer to it by `name`."""
    other = stand_in(content[:START_BYTES], name)
    if other:
        raise error(f"{name} {other.what}. {other.remedy}")
    if content.startswith(_UTF_16_MARKS) or content.count(0) > _UTF_16_NULS * len(content):
        raise error(
            _told(
                name,
                "it is UTF-16 text, as written by > in PowerShell, and must be UTF-8",
                "Save it as UTF-8 (PowerShell: | Out-File -Encoding utf8 NAME).",
            )
        )
    try:
        text = content.removeprefix(_UTF_8_MARK).decode("utf-8")
    except UnicodeDecodeError as fault:
        where = f"byte {fault.start} is {content[fault.start]:#04x}, which is not valid UTF-8"
        raise error(_told(name, where, remedy or _other_encoding(content, name))) from None
    if "\0" in text:
        raise error(
            _told(name, f"character {text.index(chr(0))} is NUL, so it is not text", remedy)
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _other_encoding(content: bytes, name: str) -> str:
    """The remedy for text that is not UTF-8, with the encoding if it is recognised."""
    try:
        content.decode("gb2312")  # pairs of high bytes, which are rare in European encodings
    except UnicodeDecodeError:
        return "Save it as UTF-8."
    return (
        "It seems to be GBK, the encoding of Chinese Windows. Save it as UTF-8 (in Notepad: Save "
        f'as, Encoding; in a terminal: iconv -f GBK -t UTF-8 "{name}").'
    )


def _told(name: str | os.PathLike[str], fault: str, remedy: str) -> str:
    return f"{os.fspath(name)} cannot be read: {fault}. {remedy}".rstrip()
