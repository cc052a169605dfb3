"""Validates a tokenizer's files before a library acts on them.

`tokenizer.json` describes a whole program: replacement steps can grow text without limit, and a
regular expression can run forever. Each kind of tokenizer may only have the steps of the published
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import check_fields, number, one_of, optional, read_json, short, whole

REMEDY = "Download this folder of the checkpoint again."
#: Qwen2's file has 11 MB.
_MAX_BYTES = 64 * 2**20
_MOST_STEPS = 8
_CONFIG_RULES = {"model_max_length": optional(number(4, 1e40))}


@dataclass(frozen=True)
class Steps:
    """The step types that a kind of tokenizer may have, and the type of its model."""

    normalizer: frozenset[str]
    pre_tokenizer: frozenset[str]
    post_processor: frozenset[str]
    decoder: frozenset[str]
    model: str
    pattern: str = ""


#: Qwen2's pre-tokenization pattern, which splits text into words.
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_STEPS = Steps(
    normalizer=frozenset({"NFC"}),
    pre_tokenizer=frozenset({"Sequence", "Split", "ByteLevel"}),
    post_processor=frozenset({"ByteLevel", "TemplateProcessing"}),
    decoder=frozenset({"ByteLevel"}),
    model="BPE",
    pattern=_QWEN_WORDS,
)
BERT_STEPS = Steps(
    normalizer=frozenset({"BertNormalizer"}),
    pre_tokenizer=frozenset({"BertPreTokenizer"}),
    post_processor=frozenset({"TemplateProcessing", "BertProcessing"}),
    decoder=frozenset({"WordPiece"}),
    model="WordPiece",
)
_MODEL_RULES = {
    "dropout": one_of(None),
    "continuing_subword_prefix": one_of(None, "", "##"),
    "end_of_word_suffix": one_of(None, ""),
    "max_input_chars_per_word": whole(1, 1000),
}


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Read and validate `tokenizer_config.json`."""
    path = folder / "tokenizer_config.json"
    config = read_json(path, dict, error=CheckpointError, remedy=REMEDY)
    check_fields(config, _CONFIG_RULES, str(path), CheckpointError)
    return config


def check_tokenizer_file(path: Path, steps: Steps) -> None:
    """Raise `CheckpointError` if `tokenizer.json` has steps not allowed for its kind."""
    content = read_json(path, dict, error=CheckpointError, remedy=REMEDY, limit=_MAX_BYTES)
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        _check_step(path, name, content.get(name), steps)
    model = content.get("model")
    if not isinstance(model, Mapping) or model.get("type", steps.model) != steps.model:
        raise _other(path, f"its model is {short(model)}, not {steps.model}")
    check_fields(model, _MODEL_RULES, f"The model in {path}", CheckpointError)


def _check_step(path: Path, name: str, step: Any, steps: Steps) -> None:
    if step is None:
        return
    kind = step.get("type") if isinstance(step, Mapping) else None
    if not isinstance(kind, str) or kind not in getattr(steps, name):
        raise _other(path, f"its {name} is {short(step)}")
    if kind == "Sequence":
        below = step.get("pretokenizers")
        if not isinstance(below, list) or len(below) > _MOST_STEPS:
            raise _other(path, f"its {name} is {short(step)}")
        for part in below:
            if isinstance(part, Mapping) and part.get("type") == "Sequence":
                raise _other(path, f"its {name} contains nested sequences")
            _check_step(path, name, part, steps)
    if kind == "Split" and step.get("pattern") != {"Regex": steps.pattern}:
        raise _other(path, f"it splits words by {short(step.get('pattern'))}")
    if kind == "TemplateProcessing":
        for parts in (step.get("single"), step.get("pair")):
            if not isinstance(parts, list) or len(parts) > _MOST_STEPS:
                raise _other(path, f"its {name} is {short(step)}")


def _other(path: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not the published tokenizer: {fault}. Use the tokenizer folder of the "
        "published checkpoint."
    )
