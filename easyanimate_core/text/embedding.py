"""The output of the text encoders and their interface.

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
    """Encoded prompts for the denoiser, one row per prompt.

    `text` [B, T, D] is the state of Qwen2-VL (V5.1) or Bert (V5), `mask` [B, T] is 1 on tokens and
    0 on padding. `text_t5` [B, T2, D2] and `mask_t5` [B, T2] are mT5's, None for V5.1. The denoiser
    also reads the padding: the masks are only for the encoders and for reports.

    `truncated` has the part of each prompt that did not fit in `text` ("" if all did),
    `truncated_t5` the part that did not fit mT5; it is empty for V5.1.
    """

    text: Tensor
    mask: Tensor
    text_t5: Tensor | None = None
    mask_t5: Tensor | None = None
    truncated: tuple[str, ...] = ()
    truncated_t5: tuple[str, ...] = ()

    @property
    def states(self) -> TextStates:
        """The part that the denoiser reads."""
        return TextStates(self.text, self.text_t5)


@dataclass(frozen=True)
class TextStates:
    """The denoiser's text input, one row per prompt: `text` and `text_t5` as in `TextEmbedding`."""

    text: Tensor
    text_t5: Tensor | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextStates:
        """Move the states to a device and dtype."""
        return self._map(lambda states: states.to(device, dtype))

    def rows(self, rows: slice) -> TextStates:
        """A slice of the prompts."""
        return self._map(lambda states: states[rows])

    def repeat(self, times: int) -> TextStates:
        """Repeat every prompt `times` times, as `repeat_interleave`."""
        return self._map(lambda states: states.repeat_interleave(times, dim=0))

    @classmethod
    def join(cls, parts: Sequence[TextStates]) -> TextStates:
        """Concatenate the rows of all parts."""
        t5 = [part.text_t5 for part in parts if part.text_t5 is not None]
        return cls(torch.cat([part.text for part in parts]), torch.cat(t5) if t5 else None)

    def _map(self, change: Callable[[Tensor], Tensor]) -> TextStates:
        return TextStates(change(self.text), None if self.text_t5 is None else change(self.text_t5))


class TextEncoder(Protocol):
    """Encodes prompts to a `TextEmbedding`."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks, so that callers can move or free them."""

    def encode(
        self, prompts: Sequence[str], *, device: torch.device | str | None = None
    ) -> TextEmbedding:
        """Encode a batch on `device` (default: that of the weights), where the result stays.

        A device other than that of the weights requires layers that move their weights when used.
        """


def check_prompts(prompts: Sequence[str]) -> None:
    """Raise `InputError` unless `prompts` is a non-empty sequence of strings."""
    if isinstance(prompts, str):
        raise InputError("prompts is one string; pass a list of prompts, for example [prompt].")
    if not prompts:
        raise InputError("prompts is empty; pass at least one prompt (it may be an empty string).")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise InputError(
                f"prompts[{index}] is a {type(prompt).__name__}; every prompt must be a string."
            )


def check_states(embedding: TextEmbedding) -> None:
    """Raise `PrecisionError` unless every state is finite."""
    for states in (embedding.text, embedding.text_t5):
        if states is not None:
            check_finite(states, "The text encoder's output for a prompt", states.dtype)


def network_device(network: nn.Module) -> torch.device:
    """The device of the network's weights."""
    return next(network.parameters()).device
