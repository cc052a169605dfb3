"""How long work reports itself: one callback, which may raise to cancel."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after each unit of work. An exception that it raises ends the work at that point."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` units of `stage`, such as "load", "encode", "denoise", "decode"."""


def silent(stage: str, done: int, total: int) -> None:
    """The default: reports to nobody."""
