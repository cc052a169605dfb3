"""The causal 3-D VAE of EasyAnimate V5 and V5.1.

Shapes: B batch, C channels, F frames, H, W height and width; f, h, w those of latents.
A video of F = 4 n + 1 frames has f = n + 1 latent frames; h = H / 8, w = W / 8.

Encoding and decoding run in chunks: the first frame alone, then `mini_batch_encoder` frames or
`mini_batch_decoder` latent frames at a time, so memory does not grow with the length. V5 normalises
over a chunk and interpolates time within it, so its chunk length is part of the model. V5.1 gives
the same result for every chunk length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, InputError
from ...progress import Progress, silent
from ..geometry import SPATIAL_FACTOR, TEMPORAL_FACTOR, check_frames, pixel_frames
from ..ops import ManualCast, Operations
from ..specs import VAEConfig
from .causal_conv import History
from .decoder import Decoder
from .encoder import Encoder

#: Limits on the largest activation of a decoded chunk, if the chunk length is free (V5.1): on a
#: CPU, where larger chunks leave its caches, and on a card, from where larger ones gain nothing.
CHUNK_BYTES, MOST_CHUNK_BYTES = 96 * 2**20, 2**31
#: Memory of a chunk relative to its largest activation: 4 + 2.5 n for n latent frames, each taken
#: as one; counted from the operations. The rest is for the allocator.
_CHUNK_MEMORY = 8


class AutoencoderKLMagvit(nn.Module):
    """Video to latents and back, with parameters named as in the published checkpoints."""

    def __init__(
        self,
        config: VAEConfig,
        *,
        operations: Operations = ManualCast,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        _check_config(config)
        self.config = config
        factory: dict[str, Any] = {"dtype": dtype, "device": device}
        channels, moments = config.latent_channels, 2 * config.latent_channels
        self.encoder = Encoder(config, operations=operations, **factory)
        self.quant_conv = operations.Conv3d(moments, moments, kernel_size=1, **factory)
        self.post_quant_conv = operations.Conv3d(channels, channels, kernel_size=1, **factory)
        self.decoder = Decoder(config, operations=operations, **factory)

    def encode(self, video_BCFHW: Tensor, *, progress: Progress = silent) -> Posterior:
        """Latent distribution of a video in [-1, 1] with F = 4 n + 1.

        Raises `InputError` for a length or size that the VAE cannot take. `progress` is called once
        per chunk, with stage "encode".
        """
        self.check_video(video_BCFHW)
        chunks = _chunks(video_BCFHW.shape[2], self.config.mini_batch_encoder)
        history = History()
        moments = []
        for done, chunk in enumerate(chunks, start=1):
            moments.append(self.encoder(video_BCFHW[:, :, chunk], history))
            progress("encode", done, len(chunks))
        mean, logvar = self.quant_conv(torch.cat(moments, dim=2)).chunk(2, dim=1)
        # The bounds of the published model's distribution (DiagonalGaussianDistribution).
        return Posterior(mean.contiguous(), logvar.clamp(-30.0, 20.0).contiguous())

    def decode(
        self,
        latents_BCfhw: Tensor,
        *,
        chunk_bytes: int | None = None,
        constant: int = 0,
        progress: Progress = silent,
    ) -> Tensor:
        """Decode unscaled latents to a video (B, C, F, H, W), about [-1, 1], not clamped.

        A chunk is one latent frame for V5; for V5.1, as many as keep its largest activation within
        `chunk_bytes`, by default what the device's free memory allows. The first `constant` latent
        frames are constants for the gradients, and take no memory for them; chunks of V5.1 are then
        single frames. Raises `InputError` for latents of another shape. `progress` is called once
        per chunk, with stage "decode".
        """
        self.check_latents(latents_BCfhw)
        batch, _, num_latent_frames, height, width = latents_BCfhw.shape
        # Filled chunk by chunk: concatenating a list would hold the whole video twice.
        video_BCFHW = latents_BCfhw.new_empty(
            batch,
            self.config.out_channels,
            pixel_frames(num_latent_frames),
            height * SPATIAL_FACTOR,
            width * SPATIAL_FACTOR,
        )
        if chunk_bytes is None:
            chunk_bytes = _chunk_bytes(latents_BCfhw.device)
        length = self.decode_chunk_length(latents_BCfhw, 0 if constant else chunk_bytes)
        chunks = _chunks(num_latent_frames, length)
        latents_BCfhw = self.post_quant_conv(latents_BCfhw)
        history = History()
        start = 0
        graded = torch.is_grad_enabled()
        for done, chunk in enumerate(chunks, start=1):
            with torch.set_grad_enabled(graded and chunk.start >= constant):
                frames = self.decoder(latents_BCfhw[:, :, chunk], history)
            video_BCFHW[:, :, start : start + frames.shape[2]] = frames
            start += frames.shape[2]
            progress("decode", done, len(chunks))
        return video_BCFHW

    def decode_chunk_length(self, latents_BCfhw: Tensor, chunk_bytes: int) -> int:
        """Number of latent frames to decode at a time.

        V5 normalises over a chunk, so its length affects the result. V5.1 does not, and two frames
        at a time take less than twice as long as one.
        """
        if not self.config.spatial_group_norm:
            return self.config.mini_batch_decoder
        batch, _, _, height, width = latents_BCfhw.shape
        pixels = batch * TEMPORAL_FACTOR * SPATIAL_FACTOR**2 * height * width
        widest = self.config.block_out_channels[1] * pixels * latents_BCfhw.element_size()
        return max(1, chunk_bytes // widest)

    def check_video(self, video_BCFHW: Tensor) -> None:
        """Raise `InputError` unless `encode` accepts this shape."""
        _check_channels("video", video_BCFHW, self.config.in_channels)
        check_frames(video_BCFHW.shape[2])
        for name, size in zip(("height", "width"), video_BCFHW.shape[3:], strict=True):
            if size < 1 or size % SPATIAL_FACTOR:
                raise InputError(
                    f"The video's {name} is {size}; the VAE needs a positive multiple of "
                    f"{SPATIAL_FACTOR}. Resize or crop the video."
                )

    def check_latents(self, latents_BCfhw: Tensor) -> None:
        """Raise `InputError` unless `decode` accepts this shape."""
        _check_channels("latents", latents_BCfhw, self.config.latent_channels)
        if min(latents_BCfhw.shape) < 1:
            raise InputError(
                f"The latents have shape {tuple(latents_BCfhw.shape)}; no dimension may be empty. "
                "Pass at least one latent frame."
            )


@dataclass(frozen=True)
class Posterior:
    """A normal distribution of latents, (B, latent channels, f, h, w), not scaled."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        """The most probable latents."""
        return self.mean

    def sample(self, generator: torch.Generator) -> Tensor:
        """Random latents; the noise is drawn on the CPU, so that all devices give the same."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise.to(self.mean.device)


def _check_config(config: VAEConfig) -> None:
    levels = len(config.block_out_channels)
    if levels != 4:
        raise CheckpointError(
            f"The VAE's config has {levels} block_out_channels; EasyAnimate V5 and V5.1 have 4 "
            f"({SPATIAL_FACTOR} x in space, {TEMPORAL_FACTOR} x in time). This is another model."
        )
    if config.mini_batch_encoder < 1 or config.mini_batch_encoder % TEMPORAL_FACTOR:
        raise CheckpointError(
            f"The VAE's mini_batch_encoder is {config.mini_batch_encoder}; it must be a positive "
            f"multiple of {TEMPORAL_FACTOR}, the frames per latent frame. Correct config.json."
        )


def _chunk_bytes(device: torch.device) -> int:
    """How large a chunk's largest activation may be on a device, now."""
    if device.type != "cuda" or torch.is_grad_enabled():
        return CHUNK_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return chunk_bytes_within(free + unused)


def chunk_bytes_within(free: int) -> int:
    """The limit on a chunk's largest activation on a card with `free` bytes of memory."""
    return max(CHUNK_BYTES, min(free // _CHUNK_MEMORY, MOST_CHUNK_BYTES))


def _chunks(num_frames: int, chunk_length: int) -> list[slice]:
    """The first frame alone, then `chunk_length` frames at a time."""
    starts = range(1, num_frames, chunk_length)
    return [slice(0, 1), *(slice(start, start + chunk_length) for start in starts)]


def _check_channels(name: str, x: Tensor, channels: int) -> None:
    if x.ndim != 5 or x.shape[1] != channels:
        raise InputError(
            f"The {name} have shape {tuple(x.shape)}; the VAE needs 5 dimensions "
            f"(batch, {channels} channels, frames, height, width). Add or permute dimensions."
        )
