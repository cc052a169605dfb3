"""What the host of a run is told of it, apart from its progress and its lines."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor


class Watch:
    """The host of a run; by default it does nothing with what it is told."""

    def saved(self, step: int, lora: Path) -> None:
        """A LoRA has been written after `step` steps."""

    def sampled(self, step: int, frames: Tensor) -> None:
        """The weights after `step` steps made `frames` [F, H, W, 3] in [0, 1]."""
