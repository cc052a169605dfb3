"""Files of prompt embeddings, which let a run do without a text encoder.

A safetensors file with `positive.text` [P, T, D] and `negative.text` [1, T, D], for V5 also
`positive.text_t5` and `negative.text_t5`. The metadata has the format version, the SHA-256 of the
tensors and, if known, the prompts as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import EasyAnimateError, InputError, counted
from ..files import (
    TEXT,
    check_fields,
    json_value,
    listed,
    optional,
    read_tensors,
    write_tensors,
)
from ..files.safetensors_file import HeaderError, SafetensorsFile
from ..models.specs import TransformerConfig
from .embedding import TextStates
from .tokenize import MAX_TOKENS

SUFFIX = ".safetensors"
_REMEDY = "Create them again with encode."
_FORMAT_KEY, _FORMAT = "easyanimate_embeddings", "1"
_SIDES = ("positive", "negative")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class PromptEmbeddings:
    """Embeddings of P prompts and a negative prompt.

    `positive` has P rows, `negative` one. `prompts` and `negative_prompt` are the texts, empty and
    None if the file does not contain them; `file` is the file they were read from; `notes` report
    truncated prompts.
    """

    positive: TextStates
    negative: TextStates
    prompts: tuple[str, ...] = ()
    negative_prompt: str | None = None
    file: Path | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.positive.text.shape[0]

    def check(self, config: TransformerConfig) -> None:
        """Raise `InputError` unless the widths match the denoiser's text encoder."""
        for states in (self.positive, self.negative):
            t5 = None if states.text_t5 is None else states.text_t5.shape[-1]
            found, wanted = (
                (states.text.shape[-1], t5),
                (config.text_embed_dim, config.text_embed_dim_t5),
            )
            if found != wanted:
                raise InputError(
                    f"The embeddings have width {_widths(*found)}, but this denoiser needs "
                    f"{_widths(*wanted)}. Encode the prompt with the text encoder of a "
                    f"{config.version.value} checkpoint."
                )


def _widths(text: int, t5: int | None) -> str:
    return str(text) if t5 is None else f"{text} and (T5) {t5}"


def write_embeddings(path: Path | str, embeddings: PromptEmbeddings) -> Path:
    """Write a .safetensors file atomically and return its path.

    Raises:
        InputError: Wrong extension, or not exactly one negative prompt.
        MediaError: The file cannot be written.
    """
    path = check_embeddings_path(path)
    _check_one(path, embeddings.negative)
    tensors: dict[str, Tensor] = {}
    for side in _SIDES:
        tensors |= states_to_tensors(getattr(embeddings, side), f"{side}.")
    texts: dict[str, Any] = {}
    if embeddings.prompts:
        texts["prompts"] = embeddings.prompts
    if embeddings.negative_prompt is not None:
        texts["negative_prompt"] = embeddings.negative_prompt
    write_tensors(path, tensors, {_FORMAT_KEY: _FORMAT, "texts": json.dumps(texts)})
    return path


def check_embeddings_path(path: Path | str) -> Path:
    """The path as a `Path`; `InputError` unless its extension is .safetensors."""
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"The file for embeddings is {path}; its name must end in {SUFFIX}.")
    return path


def read_embeddings(path: Path | str) -> PromptEmbeddings:
    """Read a file written by `write_embeddings`.

    Raises:
        InputError: The file is missing, damaged or of another kind.
    """
    path = check_embeddings_path(path)
    if not path.is_file():
        raise InputError(f"The embeddings file {path} does not exist. Create it with encode.")
    try:
        tensors, metadata = read_tensors(path)
    except ValueError as error:
        raise _damaged(path, error) from error
    if metadata.get(_FORMAT_KEY) != _FORMAT:
        raise InputError(
            f"{path} is not an embeddings file of format {_FORMAT} (its metadata has "
            f"{metadata.get(_FORMAT_KEY)!r}). Create it with encode or EasyAnimate Save "
            "Conditioning."
        )
    positive, negative = (_states(path, tensors, f"{side}.") for side in _SIDES)
    _check_one(path, negative)
    _check_alike(path, positive, negative)
    name = f"The embeddings {path} are damaged: their text"
    texts = json_value(metadata.get("texts", ""), dict, name, error=InputError, remedy=_REMEDY)
    check_fields(texts, _TEXTS, f"The text of {path}", InputError)
    prompts, unwanted = tuple(texts.get("prompts", ())), texts.get("negative_prompt")
    if prompts and len(prompts) != len(positive.text):
        rows = len(positive.text)
        raise _damaged(
            path, f"they have {counted(len(prompts), 'prompt')} but {counted(rows, 'row')}"
        )
    return PromptEmbeddings(positive, negative, prompts, unwanted, path)


def is_embeddings(path: Path) -> bool:
    """Whether a file was written by `write_embeddings`."""
    try:
        return _FORMAT_KEY in SafetensorsFile(path).metadata()
    except (HeaderError, OSError):
        return False


_TEXTS = {"prompts": listed(TEXT, 0, 100_000), "negative_prompt": optional(TEXT)}


def _check_alike(path: Path, positive: TextStates, negative: TextStates) -> None:
    """The denoiser reads both sides in one batch, so tokens and widths must be equal."""
    shapes = [
        [None if t is None else tuple(t.shape[1:]) for t in (states.text, states.text_t5)]
        for states in (positive, negative)
    ]
    if shapes[0] != shapes[1]:
        told = " and ".join(
            f"{side} of {', '.join(f'{s[0]} x {s[1]}' for s in found if s)}"
            for side, found in zip(_SIDES, shapes, strict=True)
        )
        raise _damaged(path, f"they have tokens x width {told}, which must be equal")


def _check_one(path: Path, negative: TextStates) -> None:
    count = len(negative.text)
    if count != 1:
        raise InputError(
            f"{path} has {counted(count, 'negative prompt')}; it must have exactly one."
        )


def states_to_tensors(states: TextStates, prefix: str) -> dict[str, Tensor]:
    """The states as named tensors for a file."""
    tensors = {f"{prefix}text": states.text, f"{prefix}text_t5": states.text_t5}
    # Cloned, because safetensors rejects tensors that share memory.
    shape = torch.contiguous_format
    return {
        name: t.cpu().clone(memory_format=shape) for name, t in tensors.items() if t is not None
    }


def states_from_tensors(tensors: Mapping[str, Tensor], prefix: str) -> TextStates:
    """The inverse of `states_to_tensors`; `ValueError` if the tensors are inconsistent."""
    text, t5 = tensors.get(f"{prefix}text"), tensors.get(f"{prefix}text_t5")
    for states in (text, t5):
        if states is None:
            continue
        if states.ndim != 3 or states.dtype not in _DTYPES or 0 in states.shape:
            raise ValueError(f"{prefix}text is {states.dtype} of shape {tuple(states.shape)}")
        if states.shape[1] > MAX_TOKENS:
            raise ValueError(
                f"{prefix}text has {states.shape[1]} tokens; at most {MAX_TOKENS} are allowed"
            )
        if not bool(states.isfinite().all()):
            raise ValueError(f"{prefix}text contains values that are not finite")
    if text is None or not len(text) or (t5 is not None and len(t5) != len(text)):
        raise ValueError(
            f"{prefix}text is missing or empty, or its number of rows differs from {prefix}text_t5"
        )
    return TextStates(text, t5)


def _states(path: Path, tensors: Mapping[str, Tensor], prefix: str) -> TextStates:
    try:
        return states_from_tensors(tensors, prefix)
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: object) -> EasyAnimateError:
    return InputError(f"The embeddings {path} are damaged ({error}). {_REMEDY}")
