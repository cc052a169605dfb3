"""What text encoders leave out of long prompts, found by their tokenizers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.specs import Version
from .tokenize import load_bert_tokenizer, load_qwen_tokenizer, load_t5_tokenizer

#: Texts that are tokenized at a time: each is padded to the maximum.
_AT_ONCE = 256


@dataclass(frozen=True)
class Cut:
    """What `reader` leaves out of the prompts above `max_tokens`: `words` by prompt."""

    reader: str
    max_tokens: int
    words: Mapping[str, str]


def cut_of(folder: Path, version: Version, prompts: Sequence[str]) -> tuple[Cut, ...]:
    """What each text encoder of a checkpoint folder leaves out; V5 has two.

    Raises `CheckpointError` if a tokenizer is missing or damaged.
    """
    if version is Version.V5_1:
        qwen = load_qwen_tokenizer(folder / "tokenizer")
        readers = [("Qwen2-VL", qwen.max_tokens, qwen.tokenize_prompts)]
    else:
        bert = load_bert_tokenizer(folder / "tokenizer")
        t5 = load_t5_tokenizer(folder / "tokenizer_2")
        readers = [("Bert", bert.max_tokens, bert.tokenize), ("mT5", t5.max_tokens, t5.tokenize)]
    different = list(dict.fromkeys(prompts))
    cuts = []
    for name, longest, tokenize in readers:
        words = {}
        for start in range(0, len(different), _AT_ONCE):
            some = different[start : start + _AT_ONCE]
            removed = (text.strip() for text in tokenize(some).removed)
            words |= {p: text for p, text in zip(some, removed, strict=True) if text}
        cuts.append(Cut(name, longest, words))
    return tuple(cuts)
