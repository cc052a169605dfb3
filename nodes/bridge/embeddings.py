"""Saves CONDITIONING of prompts as embedding files, and loads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths

from ...easyanimate_core.errors import InputError
from ...easyanimate_core.files.names import file_prefix
from ...easyanimate_core.text import (
    PromptEmbeddings,
    TextStates,
    read_embeddings,
    write_embeddings,
)
from .paths import EMBEDDINGS
from .shown import KEY, TEXT_T5
from .text import PROMPT, TRUNCATED

#: What an entry may contain in addition to its states; anything else would be lost in a file.
_KNOWN = {"pooled_output", TEXT_T5, PROMPT, TRUNCATED}


def check_prefix(filename_prefix: str) -> bool | str:
    """True, or why some operating systems cannot write a file name with this prefix."""
    try:
        file_prefix(filename_prefix)
    except InputError as error:
        return str(error)
    return True


def save_conditioning(
    positive: Sequence[Any], negative: Sequence[Any], filename_prefix: str
) -> Path:
    """Save both prompts' states as a new numbered file in `output/EasyAnimate_embeddings`.

    Raises:
        InputError: The conditioning contains what a file cannot keep, or the prefix is invalid.
    """
    (wanted, prompt), (unwanted, negative_prompt) = (
        _states(conditioning, name)
        for conditioning, name in ((positive, "positive"), (negative, "negative"))
    )
    folder, name, counter, *_ = folder_paths.get_save_image_path(
        file_prefix(filename_prefix), str(Path(folder_paths.get_output_directory()) / EMBEDDINGS)
    )
    prompts = () if prompt is None else (prompt,)
    return write_embeddings(
        Path(folder) / f"{name}_{counter:05}_.safetensors",
        PromptEmbeddings(wanted, unwanted, prompts, negative_prompt),
    )


def load_conditioning(file: Path) -> tuple[list[Any], list[Any], str]:
    """CONDITIONING of both prompts, and the prompts as text if the file contains them."""
    found = read_embeddings(file)
    prompt = found.prompts[0] if len(found.prompts) == 1 else None
    positive = _conditioning(found.positive, prompt)
    negative = _conditioning(found.negative, found.negative_prompt)
    texts = [f"positive: {text}" for text in found.prompts]
    if found.negative_prompt is not None:
        texts.append(f"negative: {found.negative_prompt}")
    return positive, negative, "\n".join(texts) or f"{file.name} does not contain its prompts."


def _states(conditioning: Sequence[Any], name: str) -> tuple[TextStates, str | None]:
    if len(conditioning) != 1:
        raise InputError(
            f"The {name} conditioning has {len(conditioning)} parts, but a file can only keep one. "
            "Connect the outputs of EasyAnimate Text Encode."
        )
    ((text, extra),) = conditioning
    if KEY in extra:
        raise InputError(
            f"The {name} conditioning also contains an image or a control video, which cannot be "
            "saved. Save it before that node: connect the outputs of EasyAnimate Text Encode."
        )
    others = sorted(key for key, value in extra.items() if key not in _KNOWN and value is not None)
    if others:
        raise InputError(
            f"The {name} conditioning also contains {', '.join(others)}, which cannot be saved. "
            "Connect the outputs of EasyAnimate Text Encode."
        )
    return TextStates(text, extra.get(TEXT_T5)), extra.get(PROMPT)


def _conditioning(states: TextStates, prompt: str | None) -> list[Any]:
    extra: dict[str, Any] = {"pooled_output": None}
    if states.text_t5 is not None:
        extra[TEXT_T5] = states.text_t5
    if prompt is not None:
        extra[PROMPT] = prompt
    return [[states.text, extra]]
