"""What the text encoders give and how they are called.

Shapes: B prompts, T tokens (V5.1: 256, V5: 77), D width, T2 = 256 tokens and D2 width of mT5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.precision import check_finite


@dataclass(frozen=True)
class TextEmbedding:
    """The prompts as the denoiser reads them, one row per prompt.

    `text` [B, T, D] is the state of Qwen2-VL (V5.1) or Bert (V5), `mask` [B, T] is 1 on tokens and
    0 on padding. `text_t5` [B, T2, D2] and `mask_t5` [B, T2] are mT5's, None for V5.1. The denoiser
    reads the padded rows as well: the masks are for reporting and for the encoders alone.

    `truncated` holds for each prompt the words beyond the length of `text` ("" where all were
    read), `truncated_t5` those beyond mT5's; it is empty for V5.1.
    """

    text: Tensor
    mask: Tensor
    text_t5: Tensor | None = None
    mask_t5: Tensor | None = None
    truncated: tuple[str, ...] = ()
    truncated_t5: tuple[str, ...] = ()

    @property
    def states(self) -> TextStates:
        """What the denoiser reads."""
        return TextStates(self.text, self.text_t5)


@dataclass(frozen=True)
class TextStates:
    """What the denoiser reads of prompts, one row per prompt: `text` and `text_t5` as above."""

    text: Tensor
    text_t5: Tensor | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextStates:
        """The same states elsewhere."""
        return self._map(lambda states: states.to(device, dtype))

    def rows(self, rows: slice) -> TextStates:
        """Some of the prompts."""
        return self._map(lambda states: states[rows])

    def repeat(self, times: int) -> TextStates:
        """Every prompt `times` times, one copy after the other."""
        return self._map(lambda states: states.repeat_interleave(times, dim=0))

    @classmethod
    def join(cls, parts: Sequence[TextStates]) -> TextStates:
        """The rows of all parts in their order."""
        t5 = [part.text_t5 for part in parts if part.text_t5 is not None]
        return cls(torch.cat([part.text for part in parts]), torch.cat(t5) if t5 else None)

    def _map(self, change: Callable[[Tensor], Tensor]) -> TextStates:
        return TextStates(change(self.text), None if self.text_t5 is None else change(self.text_t5))


class TextEncoder(Protocol):
    """Prompts to `TextEmbedding`."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks, for whoever places them on a device or frees them."""

    def encode(
        self, prompts: Sequence[str], *, device: torch.device | str | None = None
    ) -> TextEmbedding:
        """Encode a batch on `device` (default: where the weights are); the result lies there.

        Another device than the weights' is for layers that bring their weights along when used.
        """


def check_prompts(prompts: Sequence[str]) -> None:
    """Raise `InputError` unless `prompts` is a non-empty sequence of strings."""
    if isinstance(prompts, str):
        raise InputError("prompts is one string; pass a list of prompts, for example [prompt].")
    if not prompts:
        raise InputError("prompts is empty; pass at least one prompt (it may be the empty text).")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise InputError(
                f"prompts[{index}] is a {type(prompt).__name__}; every prompt must be a string."
            )


def check_states(embedding: TextEmbedding) -> None:
    """Raise `PrecisionError` unless every state is finite."""
    for states in (embedding.text, embedding.text_t5):
        if states is not None:
            check_finite(states, "What the text encoder makes of a prompt", states.dtype)


def network_device(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next(network.parameters()).device
