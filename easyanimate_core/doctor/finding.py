"""What the doctor finds: statements, each with its weight and, where there is one, its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How a finding counts: only `WRONG` makes the machine unfit."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """A statement about the machine. `remedy` is "" if `text` contains it or none is needed."""

    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Section:
    """The findings on one subject."""

    title: str
    findings: tuple[Finding, ...]


def fine(text: str) -> Finding:
    """A finding that needs no attention."""
    return Finding(State.OK, text)


def note(text: str, remedy: str = "") -> Finding:
    """A finding that may matter for what the user does."""
    return Finding(State.NOTE, text, remedy)


def wrong(text: str, remedy: str = "") -> Finding:
    """A fault."""
    return Finding(State.WRONG, text, remedy)
