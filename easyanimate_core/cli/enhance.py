"""`--enhance`: long prompts written by the checkpoint's text encoder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import printable
from .bars import ProgressBars

if TYPE_CHECKING:
    from ..pipeline import Generation, Pipeline


def add_enhance(parser: Any) -> None:
    """Add `--enhance`."""
    parser.add_argument(
        "--enhance",
        nargs="?",
        const="auto",
        choices=("auto", "en", "zh"),
        help="let the checkpoint's text encoder write a long prompt from yours, in English or "
        "Chinese (auto: the prompt's own), seeing the start image or the clip's first frame; V5.1 "
        "only",
    )


def written(
    arguments: argparse.Namespace, pipeline: Pipeline, task: Any, seed: int
) -> tuple[str, ...]:
    """The long prompts of `--prompt`, which are printed."""
    from ..long_prompts import enhance_prompts

    with ProgressBars() as bars:
        found = enhance_prompts(
            pipeline,
            arguments.prompt,
            task,
            language=arguments.enhance,
            seed=seed,
            progress=bars,
        )
    for long in found:
        print(f"prompt: {printable(long.text)}")
        for note in long.notes:
            print(f"note: {printable(note)}")
    return tuple(long.text for long in found)


def with_original(result: Generation, prompts: Sequence[str]) -> Generation:
    """`result` with the short prompts in its recipe, if there are any."""
    return replace(result, recipe=replace(result.recipe, original_prompts=tuple(prompts)))
