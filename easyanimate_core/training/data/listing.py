"""What a run is trained on, as a compact listing that a later start can be compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from .records import Record

_DIGEST_BYTES = 8


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

    @property
    def digest(self) -> str:
        """A hash of contents, captions and repeats: independent of names, folders and order."""
        known = sorted((row.content, row.captions, row.repeats) for row in self.rows)
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _hash(*texts: str) -> str:
    total = hashlib.blake2b(json.dumps(texts).encode(), digest_size=_DIGEST_BYTES)
    return total.hexdigest()
