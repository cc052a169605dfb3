"""Connects the core's progress callback to ComfyUI's progress bar and Cancel."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
from PIL import Image


class NodeProgress:
    """A `Progress` that updates the running node's bar and raises when it is cancelled.

    Every stage restarts the bar, because its number of units is only known when it begins.
    """

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report `done` of `total` units of `stage`."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._bar is None or stage != self._stage:
            self._bar, self._stage = comfy.utils.ProgressBar(total), stage
        self._bar.update_absolute(done, total)

    def show(self, picture: Image.Image) -> None:
        """Show a picture on the running node, as live previews are, until the next one."""
        if self._bar is not None:
            self._bar.update_absolute(self._bar.current, preview=("JPEG", picture, None))
