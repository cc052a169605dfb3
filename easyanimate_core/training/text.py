"""Encodes captions for the denoiser, each of them once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..models.specs import TransformerConfig, Version
from ..progress import Progress, silent
from ..text import Cut, TextEncoder, TextStates, cut_of
from ..text.build import build_text_encoder
from ..weights.files import read_tensor_files
from .config import ModelConfig
from .data.cache import LatentCache, digest_of_files
from .load_or_build import text_folder

_KEPT = 4096


class Captions:
    """Encoder states of captions, from memory, from disk, or from the text encoder.

    The text encoder is loaded for the first caption that was never encoded. `encode_ahead` frees
    its memory before training.
    """

    def __init__(self, model: ModelConfig, sizes: TransformerConfig, cache: Path) -> None:
        self._folder = text_folder(model)
        self._version = sizes.version
        self._masks = sizes.enable_text_attention_mask
        names = ["text_encoder", "tokenizer"]
        names += ["text_encoder_2", "tokenizer_2"] * (self._version is Version.V5)
        files = [
            f for name in names for f in sorted((self._folder / name).glob("*")) if f.is_file()
        ]
        for name in names:
            if name.startswith("text_encoder"):
                read_tensor_files(self._folder / name)  # fails now, not at the first caption
        self._cache = LatentCache(cache, digest_of_files(*files))
        self._memory: dict[str, TextStates] = {}
        self._encoder: TextEncoder | None = None

    def states(self, captions: Sequence[str], device: torch.device) -> TextStates:
        """The states, one row per caption, in float32."""
        rows = [self._states_of(caption) for caption in captions]
        return TextStates.join(rows).to(device, torch.float32)

    def cut(self, captions: Sequence[str]) -> tuple[Cut, ...]:
        """What the text encoders leave out of captions that are too long for them."""
        return cut_of(self._folder, self._version, captions)

    def encode_ahead(
        self, captions: Sequence[str], device: torch.device, progress: Progress = silent
    ) -> None:
        """Encode those of `captions` that are not on disk, then free the text encoder.

        Reports the stage "captions". On a GPU, weights keep the dtype that they are stored in.
        """
        names = ["text", "text_t5"][: 1 + (self._version is Version.V5)]
        unknown = [
            caption
            for caption in dict.fromkeys(captions)
            if not all(self._cache.has(name, caption) for name in names)
        ]
        for done, caption in enumerate(unknown):
            progress("captions", done, len(unknown))
            if self._encoder is None:
                dtype = torch.float32 if device.type == "cpu" else None
                self._encoder = self._build(dtype, device)
            self._states_of(caption)
        self._encoder = None

    def _states_of(self, caption: str) -> TextStates:
        known = self._memory.get(caption)
        if known is not None:
            return known
        text = self._cache.read("text", caption)
        text_t5 = self._cache.read("text_t5", caption) if self._version is Version.V5 else None
        if text is None or (text_t5 is None and self._version is Version.V5):
            states = self._encode(caption)
            self._cache.write(states.text, "text", caption)
            if states.text_t5 is not None:
                self._cache.write(states.text_t5, "text_t5", caption)
            half = states.to("cpu", torch.float16)
            text, text_t5 = (
                half.text.float(),
                None if half.text_t5 is None else half.text_t5.float(),
            )
        states = TextStates(text, text_t5)
        if len(self._memory) >= _KEPT:
            self._memory.pop(next(iter(self._memory)))
        self._memory[caption] = states
        return states

    def _encode(self, caption: str) -> TextStates:
        if self._encoder is None:
            self._encoder = self._build(torch.float32, torch.device("cpu"))
        return self._encoder.encode([caption]).states

    def _build(self, dtype: torch.dtype | None, device: torch.device) -> TextEncoder:
        return build_text_encoder(
            self._folder,
            self._version,
            use_attention_mask=self._masks,
            dtype=dtype,
            device=device,
        )
