"""Reports what was done to make sources fit the video, before anything is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..easyanimate_core.errors import InputError
from .bridge import notes


def strict_widget() -> io.Input:
    """Whether to reject sources that do not fit as they are."""
    return io.Boolean.Input(
        "strict",
        default=False,
        tooltip="Stop with an error if a source would have to be cropped, shortened, repeated or "
        "resampled to another frame rate. Otherwise the report lists what was done.",
    )


def report_changes(node_id: str | None, changes: Sequence[str], *, strict: bool) -> str:
    """The changes as text, shown on the node; `InputError` if there are any and `strict` is on."""
    text = "\n".join(changes)
    if strict and changes:
        raise InputError(
            f"strict is on, but the sources do not fit as they are: {' '.join(changes)} Prepare "
            "them in this size, length and frame rate, change the node's size or length, or turn "
            "strict off."
        )
    notes.show(node_id, text)
    return text
