"""What text encoders leave out of long prompts, found by their tokenizers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.specs import Version
from .tokenize import (
    SentencePieceTokenizer,
    Tokens,
    TransformersTokenizer,
    load_bert_tokenizer,
    load_qwen_tokenizer,
    load_t5_tokenizer,
)

#: Texts that are tokenized at a time: each is padded to the maximum.
_AT_ONCE = 256
#: What tokenizers add to a text, at most: its start and its end.
_SPECIAL_TOKENS = 2


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
        room = qwen.max_tokens - len(qwen.chat(""))
        long = _longer(prompts, qwen.count_prompts, qwen.max_tokens, room)
        return (_cut("Qwen2-VL", qwen, long, qwen.tokenize_prompts),)
    bert, t5 = load_bert_tokenizer(folder / "tokenizer"), load_t5_tokenizer(folder / "tokenizer_2")
    cuts = []
    readers: tuple[tuple[str, TransformersTokenizer | SentencePieceTokenizer], ...]
    readers = (("Bert", bert), ("mT5", t5))
    for name, tokenizer in readers:
        longest = tokenizer.max_tokens
        long = _longer(prompts, tokenizer.count, longest, longest - _SPECIAL_TOKENS)
        cuts.append(_cut(name, tokenizer, long, tokenizer.tokenize))
    return tuple(cuts)


def _longer(
    prompts: Sequence[str], count: Callable[[Sequence[str]], list[int]], longest: int, room: int
) -> list[str]:
    """The prompts of more than `longest` tokens; those of at most `room` letters are not.

    A letter of ASCII is at most one token, which saves most of the work.
    """
    different = dict.fromkeys(prompts)
    unsure = [p for p in different if not p.isascii() or len(p) > room]
    if not unsure:
        return []
    return [p for p, length in zip(unsure, count(unsure), strict=True) if length > longest]


def _cut(
    name: str,
    tokenizer: TransformersTokenizer | SentencePieceTokenizer,
    long: Sequence[str],
    tokenize: Callable[[Sequence[str]], Tokens],
) -> Cut:
    words: dict[str, str] = {}
    for start in range(0, len(long), _AT_ONCE):
        some = long[start : start + _AT_ONCE]
        removed = (text.strip() for text in tokenize(some).removed)
        words |= {p: text for p, text in zip(some, removed, strict=True) if text}
    return Cut(name, tokenizer.max_tokens, words)
