"""Texts of the workflows in both languages."""

from __future__ import annotations

from typing import NamedTuple


class Said(NamedTuple):
    """A text in English, which the file shows, and in Chinese, which `web/js` puts there."""

    en: str
    zh: str

    def __add__(self, other: object) -> Said:  # type: ignore[override]
        """Both texts, one after the other."""
        if not isinstance(other, Said):
            return NotImplemented
        return Said(self.en + other.en, self.zh + other.zh)
