"""A ready-made workflow: its purpose and its texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import app_mode
from .builders import Columns
from .canvas import Canvas, Group
from .drafts import Draft, Form
from .notes import (
    MEMORY_TIP,
    SEED_TIP,
    SIZE_TIP,
    STEPS_TIPS,
    BuiltIn,
    Weights,
    detector_lines,
    note,
)
from .schemas import NOTE, Schema

BOTH = (Form.CORE, Form.VIDEO_HELPER)
OTHER_FORM = {
    Form.CORE: "This workflow needs no other node pack. The variant named **(VHS)** reads and "
    "writes videos with VideoHelperSuite.",
    Form.VIDEO_HELPER: "This workflow needs the node pack **VideoHelperSuite**. The variant "
    "without (VHS) in its name reads and writes videos with ComfyUI's own nodes.",
}


@dataclass(frozen=True)
class Mode:
    """One workflow, in one or both forms; `detectors` are the kinds whose weights it lists.

    `app` is whether App mode shows it as an app: not where a graph is needed to use it.
    """

    version: str
    name: str
    build: Callable[[Draft], Columns]
    weights: Weights | BuiltIn
    about: str
    todo: tuple[str, ...]
    prompt: str
    tips: tuple[str, ...] = ()
    forms: tuple[Form, ...] = BOTH
    size_tip: str = SIZE_TIP
    detectors: tuple[str, ...] = ()
    app: bool = True

    def title(self, form: Form) -> str:
        """The name of the file, without .json."""
        return f"EasyAnimate {self.version} - {self.name}{form.value}"

    def text(self, form: Form) -> str:
        """The note on the canvas."""
        tips = [*self.tips, STEPS_TIPS[self.version], self.size_tip, SEED_TIP, MEMORY_TIP]
        if len(self.forms) > 1:
            tips += [OTHER_FORM[form]]
        heading = f"{self.name} with EasyAnimate {self.version}"
        weights = [*self.weights.lines(), *detector_lines(self.detectors)]
        return note(heading, self.about, weights, self.todo, tips)

    def workflow(self, form: Form, schemas: Mapping[str, Schema]) -> dict[str, Any]:
        """The workflow in one form, as JSON."""
        canvas = Canvas(self.title(form), schemas)
        read_me = canvas.add(NOTE, title="Read me", text=self.text(form))
        prefix = f"EasyAnimate/{self.name.lower().replace(' ', '_')}"
        draft = Draft(canvas, form, weights=self.weights, text=self.prompt, prefix=prefix)
        canvas.arrange([[Group("About", [[read_me]])], *self.build(draft)])
        if self.app:
            left_out = app_mode.FIXED if isinstance(self.weights, BuiltIn) else ()
            canvas.extra = app_mode.describe(canvas.nodes, left_out)
        return canvas.to_json()
