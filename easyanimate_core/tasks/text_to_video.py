"""Text to video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..media import Fit
from ..models.specs import Head
from .loaded import Loaded
from .task import Task


@dataclass(frozen=True)
class TextToVideo(Task):
    """A video from the prompt alone; a single frame is an image."""

    mode: ClassVar[str] = "text_to_video"
    heads: ClassVar[tuple[Head, ...]] = (Head.T2V, Head.INPAINT)

    def load(
        self,
        *,
        max_seconds: float | None = None,  # noqa: ARG002
        fit: Fit | None = None,  # noqa: ARG002
    ) -> Loaded:
        """Nothing to read."""
        return Loaded()
