"""The networks of a checkpoint during runs: loaded when needed, placed as `Memory` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .checkpoint import CheckpointInfo
from .loading import load_transformer, load_vae
from .memory import Memory
from .models.transformer import EasyAnimateTransformer3DModel
from .models.vae import AutoencoderKLMagvit
from .progress import Progress
from .text import TextEncoder, build_text_encoder


class Networks:
    """Loads each network of a checkpoint when its stage comes and keeps it for the next run.

    The text encoder is not kept. Between stages a network rests in main memory (memory-mapped where
    its dtype is kept), unless `memory.offload` is "resident".
    """

    def __init__(
        self, info: CheckpointInfo, device: torch.device, dtype: torch.dtype, memory: Memory
    ) -> None:
        self.info = info
        self.device = device
        self.dtype = dtype
        self.memory = memory
        self._transformer: EasyAnimateTransformer3DModel | None = None
        self._vae: AutoencoderKLMagvit | None = None

    def text_encoder(self, progress: Progress) -> TextEncoder:
        """A text encoder, ready to use; it is freed when the caller lets go of it."""
        return build_text_encoder(
            self.info.path,
            self.info.version,
            use_attention_mask=self.info.transformer.enable_text_attention_mask,
            dtype=self.dtype,
            device=self.device,
            quantization=self.memory.text_quantization,
            progress=progress,
        )

    @contextmanager
    def transformer(self, progress: Progress) -> Iterator[EasyAnimateTransformer3DModel]:
        """The denoiser, ready to use inside the block."""
        if self._transformer is None:
            self._transformer = load_transformer(
                self.info,
                dtype=self._storage_dtype,
                quantization=self.memory.quantization,
                progress=progress,
            )
        with _placed(self._transformer, self.device):
            yield self._transformer

    @contextmanager
    def vae(self, progress: Progress) -> Iterator[AutoencoderKLMagvit]:
        """The VAE, ready to use inside the block."""
        if self._vae is None:
            self._vae = load_vae(self.info, dtype=self._storage_dtype, progress=progress)
        with _placed(self._vae, self.device):
            yield self._vae

    @property
    def _storage_dtype(self) -> torch.dtype | None:
        """On a CPU the stored dtype is kept, so weights stay mapped; layers cast them when used."""
        return None if self.device.type == "cpu" else self.dtype


@contextmanager
def _placed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """The network on the device inside the block, back in main memory after it."""
    network.to(device)
    try:
        yield
    finally:
        if device.type != "cpu":
            network.to("cpu")
