"""Progress of long work: a callback, which may raise to cancel."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after each unit of work. An exception raised from it cancels the work."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report `done` of `total` units of `stage` ("load", "denoise", "download", ...)."""


def silent(stage: str, done: int, total: int) -> None:
    """The default: does nothing."""
