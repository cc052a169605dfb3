"""Long prompts from short ones, written by the model's own text encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import Progress, silent
from .instruction import LANGUAGE_NAMES, conversation, language_of
from .picture import picture_patches
from .tokenize import ChatTokenizer
from .writer import Answer, PromptWriter

#: Longest prompt to write from, in tokens.
MAX_PROMPT_TOKENS = 2048
#: Fewest tokens that a long prompt may be limited to.
MIN_TOKENS = 16

_MARKER = re.compile(r"<\|[a-z_]+\|>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffd]")
_SENTENCE = re.compile(r"^.*[.!?。！？][\"'”’」]?", re.DOTALL)
_DECLINED = re.compile(
    r"(?:I['’]m |I am )?(?:sorry|unable)\b|I (?:cannot|can['’]t|won['’]t)\b|As an AI\b"
    r"|抱歉|很抱歉|对不起|我(?:不能|无法)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Request:
    """What to write: `prompt` may be empty if a picture is shown.

    `language` is one of `LANGUAGES`; `max_tokens` None allows what the text encoder reads.
    """

    prompt: str
    language: str = "auto"
    seed: int = 43
    max_tokens: int | None = None


@dataclass(frozen=True)
class LongPrompt:
    """The long prompt, and notes on it for the user."""

    text: str
    notes: tuple[str, ...] = ()


def enhance_prompt(
    writer: PromptWriter,
    request: Request,
    picture_HWC: Tensor | None = None,
    *,
    device: torch.device | str | None = None,
    progress: Progress = silent,
) -> LongPrompt:
    """Write a long prompt; deterministic by `request.seed`.

    Args:
        writer: Built with `sees` if there is a picture.
        request: The short prompt and how to write.
        picture_HWC: The video's first frame in [0, 1].
        device: Where to compute; by default where the weights are.
        progress: Reports the stage "write" after every token; may raise to cancel.

    Raises:
        InputError: A value breaks a rule, or the answer is not a prompt: it is empty or declines.
    """
    limit = check_request(request, writer.tokenizer, seen=picture_HWC is not None)
    language = language_of(request.prompt, request.language)
    patches = None if picture_HWC is None else picture_patches(picture_HWC)
    shown = "" if patches is None else _picture_tokens(patches.num_tokens)
    answer = writer.answer(
        conversation(request.prompt.strip(), language, picture=shown),
        picture=patches,
        seed=request.seed,
        max_tokens=limit,
        device=device,
        progress=progress,
    )
    return _checked(answer, language, limit)


def check_request(request: Request, tokenizer: ChatTokenizer, *, seen: bool) -> int:
    """Raise `InputError` for what cannot be written; returns the limit in tokens."""
    marker = _MARKER.search(request.prompt)
    if marker:
        raise InputError(
            f"The prompt contains {marker[0]}, a mark of the language model's chat, which would "
            "change what it is asked. Remove it."
        )
    if not request.prompt.strip() and not seen:
        raise InputError("The prompt is empty. Write a few words, or give a picture.")
    language_of(request.prompt, request.language)
    count = _count(tokenizer, request.prompt)
    if count > MAX_PROMPT_TOKENS:
        raise InputError(
            f"The prompt has {count} tokens; a long prompt is written from at most "
            f"{MAX_PROMPT_TOKENS}. Shorten it."
        )
    room = tokenizer.max_tokens - _count(tokenizer, tokenizer.chat(""))
    limit = room if request.max_tokens is None else request.max_tokens
    if not MIN_TOKENS <= limit <= room:
        raise InputError(
            f"max_tokens is {limit}; it must be from {MIN_TOKENS} to {room}, which is what the "
            "text encoder reads of a prompt."
        )
    return limit


def _count(tokenizer: ChatTokenizer, text: str) -> int:
    return len(tokenizer.backend(text, add_special_tokens=False, verbose=False)["input_ids"])


def _picture_tokens(count: int) -> str:
    return f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"


def _checked(answer: Answer, language: str, limit: int) -> LongPrompt:
    """One paragraph without marks of the chat, and notes."""
    plain = _CONTROL.sub(" ", _MARKER.sub(" ", answer.text))
    text = " ".join(plain.split()).strip(' "“”')
    if not text:
        raise InputError("The language model wrote nothing. Try another seed, or other words.")
    if _DECLINED.match(text):
        raise InputError(
            f"The language model declined: {text[:200]!r}. Use other words, another seed, or the "
            "short prompt."
        )
    notes: list[str] = []
    if not answer.ended:
        whole = _SENTENCE.match(text)
        if whole and len(whole[0]) >= len(text) // 2:
            text = whole[0]
        notes.append(
            f"The long prompt was stopped at {limit} tokens; it ends with its last whole sentence, "
            "if there is one."
        )
    if language_of(text) != language:
        notes.append(
            f"The long prompt was asked for in {LANGUAGE_NAMES[language]}, but is mostly in "
            "another language. Try another seed."
        )
    return LongPrompt(text, tuple(notes))
