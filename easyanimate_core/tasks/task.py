"""What every mode has in common: the protocol that the rest of the package knows tasks by."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar, Protocol

from ..media import Clip, Fit, Source
from ..models.specs import Head
from .loaded import Loaded


class Task(Protocol):
    """A mode with its sources, a frozen dataclass: its fields are what a recipe records.

    A source is a path or a tensor: pictures and clips are [F, H, W, 3] in [0, 1], masks [F, H, W]
    with 1 where the model generates. `mode` is the name in recipes, `heads` are the heads that can
    run it.
    """

    mode: ClassVar[str]
    heads: ClassVar[tuple[Head, ...]]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def strength(self) -> float:
        """The share of the schedule that is run; below 1 it starts from the noised source."""
        return 1.0

    @property
    def reference(self) -> Source | Clip | None:
        """A picture of what the result shall show, for the heads that take one."""
        return None

    def load(self, *, max_seconds: float | None = None, fit: Fit | None = None) -> Loaded:
        """Read and check every source.

        Args:
            max_seconds: How much of a clip's file is read; None is all of it.
            fit: What a clip's file is scaled for while it is decoded; None keeps it whole.
        """
        ...
