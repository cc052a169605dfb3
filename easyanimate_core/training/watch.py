"""What the host of a run is told of it, apart from its lines."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..progress import Progress


@runtime_checkable
class Watch(Progress, Protocol):
    """A `Progress` that is also told what there is to look at and to use."""

    def saved(self, step: int, lora: Path) -> None:
        """A LoRA has been written after `step` steps."""

    def sampled(self, step: int, sheet: Tensor) -> None:
        """The weights after `step` steps made what is on `sheet`, an image [1, H, W, 3]."""
