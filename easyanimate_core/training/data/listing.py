"""What a run is trained on, as a compact listing that a later start can be compared with."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from ...errors import InputError, counted
from ...files import json_value
from .records import Record

_DIGEST_BYTES = 8
#: How many names a kind of change is illustrated with.
_SHOWN = 3


@dataclass(frozen=True, order=True)
class Row:
    """One clip: hashes of its `content` and its `captions`, how often it is drawn, its name."""

    content: str
    captions: str
    repeats: int
    name: str


@dataclass(frozen=True)
class Listing:
    """The clips of a run, in an order of their own."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Listing:
        """The listing of `records`."""
        rows = (
            Row(_hash(record.identity), _hash(*record.captions), record.repeats, record.name)
            for record in records
        )
        return cls(tuple(sorted(rows)))

    @classmethod
    def from_json(cls, text: str) -> Listing:
        """Parse what `to_json` has made; raises `InputError` or `TypeError`."""
        return cls(
            tuple(
                Row(*map(_checked, row, (str, str, int, str)))
                for row in json_value(text, list, "The listing", error=InputError)
            )
        )

    def to_json(self) -> str:
        """The listing as text."""
        return json.dumps([astuple(row) for row in self.rows], ensure_ascii=True, indent=0)

    @property
    def digest(self) -> str:
        """A hash of contents, captions and repeats: independent of names, folders and order."""
        known = sorted((row.content, row.captions, row.repeats) for row in self.rows)
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def changes_since(self, before: Listing) -> str:
        """What differs from `before`, counted, with a few names."""
        gone, come = _left_over(before.rows, self.rows), _left_over(self.rows, before.rows)
        gone, come, edited = _paired(gone, come, lambda row: (row.content, row.name))
        gone, come, moved = _paired(gone, come, lambda row: row.content)
        edited += moved
        gone, come, replaced = _paired(gone, come, lambda row: row.name or None)
        parts = [
            _told(come, "clip", "added"),
            _told(gone, "clip", "removed"),
            _told(replaced, "clip", "with other content"),
            _told(edited, "clip", "with other captions or repeats"),
        ]
        said = ", ".join(part for part in parts if part)
        return f"{said} ({len(before.rows)} before, {len(self.rows)} now)"


def _left_over(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """The rows that are not among `others`, which may have another name."""
    return _paired(list(rows), list(others), lambda row: (row.content, row.captions, row.repeats))[
        0
    ]


def _paired(
    gone: list[Row], come: list[Row], key: Callable[[Row], object]
) -> tuple[list[Row], list[Row], list[Row]]:
    """Take out of both lists what has the same key; returns the rest and what came for it."""
    missing = Counter(key(row) for row in gone)
    matched, rest = [], []
    for row in come:
        if key(row) is not None and missing[key(row)]:
            missing[key(row)] -= 1
            matched.append(row)
        else:
            rest.append(row)
    left = []
    for row in reversed(gone):
        if missing[key(row)]:
            missing[key(row)] -= 1
            left.append(row)
    return left[::-1], rest, matched


def _told(rows: Sequence[Row], noun: str, what: str) -> str:
    if not rows:
        return ""
    names = sorted({row.name for row in rows if row.name})
    shown = ", ".join(names[:_SHOWN]) + (" and others" if len(names) > _SHOWN else "")
    return f"{counted(len(rows), noun)} {what}" + (f" ({shown})" if shown else "")


def _checked(value: object, kind: type) -> object:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not a {kind.__name__}")
    return value


def _hash(*texts: str) -> str:
    total = hashlib.blake2b(json.dumps(texts).encode(), digest_size=_DIGEST_BYTES)
    return total.hexdigest()
