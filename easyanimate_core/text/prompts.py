"""Encodes prompts, through a cache if there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

from ..errors import InputError, MediaError
from .embedding import TextEncoder, TextStates, check_states


@dataclass(frozen=True)
class EncodedPrompt:
    """The states of a single prompt, one row.

    `cut` has the words that each text encoder (V5 has two) truncated, or "".
    """

    states: TextStates
    cut: tuple[str, ...]


class Cache(Protocol):
    """A store of encoded prompts."""

    def read(self, prompt: str) -> EncodedPrompt | None:
        """The stored prompt, or None; `InputError` if it is damaged."""

    def write(self, prompt: str, encoded: EncodedPrompt) -> None:
        """Store a prompt; `MediaError` if that fails."""


def encode_prompts(
    prompts: Sequence[str],
    open_encoder: Callable[[], AbstractContextManager[TextEncoder]],
    cache: Cache | None = None,
) -> tuple[list[EncodedPrompt], tuple[str, ...]]:
    """Encode prompts; returns their embeddings on the CPU, and notes about the cache.

    The encoder is opened only if the cache lacks a prompt. Prompts are encoded one at a time: the
    rounding of a matrix product may depend on the batch size, and a prompt's embedding must not
    depend on the others. Raises `PrecisionError` if a state is not finite.
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
        notes.append(f"A cached embedding is replaced: {error}")
        return None


def _write(cache: Cache, prompt: str, encoded: EncodedPrompt, notes: list[str]) -> None:
    try:
        cache.write(prompt, encoded)
    except MediaError as error:
        notes.append(f"An embedding was not cached: {error}")
