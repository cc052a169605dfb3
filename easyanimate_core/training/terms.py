"""What the users of a run call its settings, and what they can do: messages speak in their terms.

These are the keys of a YAML file, unless a host has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Terms:
    """`names` of the settings that the users have; None if they have all, under their keys.

    `elsewhere` is how to get a new run, `erasing` how to start one over beside deleting its folder.
    Whether a run with another setting `resumes` the one without.
    """

    names: Mapping[str, str] | None = None
    elsewhere: str = "choose another output"
    erasing: str = " (or pass --restart)"
    resumes: bool = True

    def called(self, setting: str) -> str:
        """What the users call a setting."""
        return setting if self.names is None else self.names.get(setting, setting)

    def has(self, setting: str) -> bool:
        """Whether the users can set it."""
        return self.names is None or setting in self.names

    def start_over(self, folder: Path) -> str:
        """How to start a run over, as the end of a sentence."""
        return f"delete {folder}{self.erasing} to start over"


_KEYS = Terms()
_spoken = ContextVar("terms", default=_KEYS)


def terms() -> Terms:
    """Those that messages use now."""
    return _spoken.get()


@contextmanager
def in_terms(wanted: Terms) -> Iterator[None]:
    """Let messages use other terms inside the block."""
    token = _spoken.set(wanted)
    try:
        yield
    finally:
        _spoken.reset(token)
