"""The protocol of all modes, which the rest of the package depends on."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar, Protocol

from ..media import Clip, Fit, Source
from ..models.specs import Head
from .loaded import Loaded


class Task(Protocol):
    """A mode with its sources, as a frozen dataclass whose fields are recorded in recipes.

    A source is a path or a tensor: images and clips are [F, H, W, 3] in [0, 1], masks [F, H, W]
    with 1 where the model generates. `mode` is the name in recipes, `heads` are the heads that can
    run it.
    """

    mode: ClassVar[str]
    heads: ClassVar[tuple[Head, ...]]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def strength(self) -> float:
        """The share of the schedule to run; below 1, sampling starts from the noised source."""
        return 1.0

    @property
    def reference(self) -> Source | Clip | None:
        """An image of what the result should look like, for heads that take one."""
        return None

    def load(self, *, max_seconds: float | None = None, fit: Fit | None = None) -> Loaded:
        """Read and check every source.

        Args:
            max_seconds: How much of a clip's file to read; None reads all of it.
            fit: How to scale a clip's file while it is decoded; None keeps its size.
        """
        ...
