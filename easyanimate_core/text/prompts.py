"""Prompts through a text encoder, or through its cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

from ..errors import InputError, MediaError
from .embedding import TextEncoder, TextStates, check_states


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt's states, of one row.

    `cut` holds the words that each text encoder (V5 has two) did not read, "" where it read all.
    """

    states: TextStates
    cut: tuple[str, ...]


class Cache(Protocol):
    """Where encoded prompts are kept."""

    def read(self, prompt: str) -> EncodedPrompt | None:
        """What was kept, None where nothing was; `InputError` where it is damaged."""

    def write(self, prompt: str, encoded: EncodedPrompt) -> None:
        """Keep it; `MediaError` where it cannot be."""


def encode_prompts(
    prompts: Sequence[str],
    open_encoder: Callable[[], AbstractContextManager[TextEncoder]],
    cache: Cache | None = None,
) -> tuple[list[EncodedPrompt], tuple[str, ...]]:
    """Every prompt's embedding on the CPU, and notes about the cache.

    The encoder is opened only where the cache lacks a prompt. Each prompt is encoded by itself: a
    matrix product's rounding may depend on the number of its rows, and a prompt shall have the same
    bits whatever it is encoded with. Raises `PrecisionError` where a state is not finite.
    """
    encoded: dict[str, EncodedPrompt] = {}
    notes: list[str] = []
    with ExitStack() as stack:
        encoder: TextEncoder | None = None
        for prompt in dict.fromkeys(prompts):
            known = None if cache is None else _read(cache, prompt, notes)
            if known is None:
                encoder = encoder or stack.enter_context(open_encoder())
                known = _encode(encoder, prompt)
                if cache is not None:
                    _write(cache, prompt, known, notes)
            encoded[prompt] = known
    return [encoded[prompt] for prompt in prompts], tuple(notes)


def _encode(encoder: TextEncoder, prompt: str) -> EncodedPrompt:
    embedding = encoder.encode([prompt])
    check_states(embedding)
    cut = (*embedding.truncated, *embedding.truncated_t5)
    return EncodedPrompt(embedding.states.to("cpu"), cut)


def _read(cache: Cache, prompt: str, notes: list[str]) -> EncodedPrompt | None:
    try:
        return cache.read(prompt)
    except InputError as error:
        notes.append(f"A kept embedding is made anew: {error}")
        return None


def _write(cache: Cache, prompt: str, encoded: EncodedPrompt, notes: list[str]) -> None:
    try:
        cache.write(prompt, encoded)
    except MediaError as error:
        notes.append(f"An embedding was not kept for the next time: {error}")
