"""Encoding pixels as scaled latents.

Shapes: B batch, C channels, F frames, H and W height and width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..models.precision import check_finite
from ..models.specs import VAEConfig
from ..models.vae import Posterior
from ..progress import Progress, silent


class VideoEncoder(Protocol):
    """An encoder of pixels: the VAE itself, a tiled one, or a host's."""

    @property
    def config(self) -> VAEConfig:
        """The VAE's configuration."""

    def encode(self, video_BCFHW: Tensor, *, progress: Progress = silent) -> Posterior:
        """Distribution of the latents of a video in [-1, 1]."""


def encode_video(vae: VideoEncoder, video_BCFHW: Tensor, *, progress: Progress = silent) -> Tensor:
    """The most likely latents of a video in [-1, 1], times the scaling factor, in float32.

    Samples are encoded one by one, because activations dominate the VAE's memory. Raises
    `PrecisionError` if a latent is not finite.
    """
    parts = [vae.encode(sample, progress=progress).mean for sample in video_BCFHW.split(1)]
    latents = torch.cat(parts)
    check_finite(latents, "What the VAE encodes", video_BCFHW.dtype)
    return latents.float() * vae.config.scaling_factor


def to_model_range(frames_FHWC: Tensor) -> Tensor:
    """Convert frames [F, H, W, C] in [0, 1] to a video [1, C, F, H, W] in [-1, 1]."""
    return rearrange(frames_FHWC, "f h w c -> 1 c f h w") * 2 - 1


def from_model_range(video_CFHW: Tensor) -> Tensor:
    """Convert a decoded video [C, F, H, W] to frames [F, H, W, C] clamped to [0, 1]."""
    frames = (video_CFHW.float() / 2 + 0.5).clamp(0, 1)
    return rearrange(frames, "c f h w -> f h w c").contiguous()
