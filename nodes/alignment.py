"""What was done to sources so that they fit the video, said before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..easyanimate_core.errors import InputError
from .bridge import notes


def strict_widget() -> io.Input:
    """Whether a source that does not fit as it is is refused."""
    return io.Boolean.Input(
        "strict",
        default=False,
        tooltip="Refuse to run where a source would have to be cropped, shortened, repeated or "
        "brought to another frame rate. Otherwise the report says what was done.",
    )


def report_changes(node_id: str | None, changes: Sequence[str], *, strict: bool) -> str:
    """The changes as text, shown on the node; `InputError` where there are some and none may be."""
    text = "\n".join(changes)
    if strict and changes:
        raise InputError(
            f"strict is on and the sources do not fit as they are: {' '.join(changes)} Prepare "
            "them in this size, length and frame rate, change the node's size or length, or turn "
            "strict off."
        )
    notes.show(node_id, text)
    return text
