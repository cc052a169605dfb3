"""What the host of a run is told of it, apart from its progress and its lines."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor


class Watch(Protocol):
    """The host of a run."""

    def saved(self, step: int, lora: Path) -> None:
        """A LoRA has been written after `step` steps."""

    def sampled(self, step: int, sheet: Tensor) -> None:
        """The weights after `step` steps made what is on `sheet`, an image [1, H, W, 3]."""


class Unwatched:
    """The default: does nothing."""

    def saved(self, step: int, lora: Path) -> None:
        """Do nothing."""

    def sampled(self, step: int, sheet: Tensor) -> None:
        """Do nothing."""
