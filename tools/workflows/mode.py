"""A ready-made workflow: its purpose and its texts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import app_mode
from .builders import Columns
from .canvas import Canvas, Group
from .drafts import ABOUT, READ_ME, Draft, Form
from .notes import MEMORY_TIP, MORE_TIPS, SEED_TIP, SIZE_TIP, BuiltIn, Weights, note
from .schemas import NOTE, Schema
from .words import Said

#: A note in Nodes 2.0 of some frontends is as tall as its text: characters per line at the note's
#: width, the height of a line, and what a paragraph adds.
_LINE, _LINE_HEIGHT, _PARAGRAPH_HEIGHT = 53, 7, 23
_ADDRESS = re.compile(r"\]\(.*?\)")


@dataclass(frozen=True)
class Mode:
    """One workflow. `name` is the file's, and begins with the number of its chapter.

    `app` is whether App mode shows it as an app: not where a graph is needed to use it.
    """

    name: str
    heading: Said
    build: Callable[[Draft], Columns]
    weights: Weights | BuiltIn
    about: Said
    todo: tuple[Said, ...]
    prompt: str
    tips: tuple[Said, ...] = ()
    form: Form = Form.CORE
    size_tip: Said = SIZE_TIP
    app: bool = True

    @property
    def all_tips(self) -> tuple[Said, ...]:
        """Its own tips, and those that hold for every workflow with published weights."""
        if isinstance(self.weights, BuiltIn):
            return self.tips
        general = (self.size_tip, MORE_TIPS[self.weights.version], SEED_TIP, MEMORY_TIP)
        return (*self.tips, *general)

    def workflow(self, schemas: Mapping[str, Schema]) -> dict[str, Any]:
        """The workflow as JSON."""
        canvas = Canvas(self.name, schemas)
        text = note(self.heading, self.about, self.weights.said(), self.todo, self.all_tips)
        read_me = canvas.add(NOTE, title=READ_ME, text=text)
        read_me.size = (read_me.size[0], _height_of(text.en))
        prefix = f"EasyAnimate/{self.heading.en.lower().replace(' ', '_')}"
        draft = Draft(canvas, self.form, weights=self.weights, text=self.prompt, prefix=prefix)
        first, *others = self.build(draft)
        canvas.arrange([[Group(ABOUT, [[read_me]]), *first], *others])
        if self.app:
            left_out = app_mode.FIXED if isinstance(self.weights, BuiltIn) else ()
            canvas.extra = app_mode.describe(canvas.nodes, left_out)
        return canvas.to_json()


def _height_of(text: str) -> int:
    """The height that a note needs."""
    paragraphs = [line for line in _ADDRESS.sub("]", text).splitlines() if line]
    lines = sum(math.ceil(len(paragraph) / _LINE) for paragraph in paragraphs)
    return _LINE_HEIGHT * lines + _PARAGRAPH_HEIGHT * len(paragraphs)
