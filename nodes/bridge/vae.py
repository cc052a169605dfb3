"""The core's causal 3-D VAE as a native VAE."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.sd
import torch
from torch import Tensor

from ...easyanimate_core.conditioning.encode import from_model_range
from ...easyanimate_core.errors import InputError
from ...easyanimate_core.memory.plan import activations
from ...easyanimate_core.memory.plan.estimate import ALLOCATOR_SHARE
from ...easyanimate_core.models.geometry import SPATIAL_FACTOR, TEMPORAL_FACTOR
from ...easyanimate_core.models.precision import check_finite
from ...easyanimate_core.models.specs import VAEConfig
from ...easyanimate_core.models.vae import (
    TILE_SIDES,
    AutoencoderKLMagvit,
    Tiles,
    decode_tiled,
    sides_for,
)
from ...easyanimate_core.models.vae.model import Posterior
from ...easyanimate_core.progress import Progress, silent
from ...easyanimate_core.weights.loading import load_network
from .patcher import make_patcher, remember_how
from .progress import NodeProgress

logger = logging.getLogger(__name__)


class VideoVAE(AutoencoderKLMagvit):
    """The VAE with ComfyUI's calling convention: `encode` returns the mode of the latents."""

    def encode(self, video_BCFHW: Tensor) -> Tensor:  # type: ignore[override]
        """Unscaled latents of a video in [-1, 1]."""
        latents = super().encode(video_BCFHW, progress=NodeProgress()).mean
        check_finite(latents, "What the VAE encodes", video_BCFHW.dtype)
        return latents

    def decode(
        self, latents_BCfhw: Tensor, *, progress: Progress | None = None, **options: Any
    ) -> Tensor:
        """The video of unscaled latents, in about [-1, 1]."""
        video = super().decode(latents_BCfhw, progress=progress or NodeProgress(), **options)
        check_finite(video, "The VAE's output", latents_BCfhw.dtype)
        return video


class EncodingVAE:
    """Adapts a ComfyUI VAE to the core's conditioning: `encode(video).mean` and `config`."""

    def __init__(self, vae: comfy.sd.VAE) -> None:
        self._vae = vae
        self.config = easyanimate_vae(vae).config

    def encode(self, video_BCFHW: Tensor, *, progress: Progress = silent) -> Posterior:  # noqa: ARG002
        """Latents of a single video in [-1, 1]. The VAE reports its own progress."""
        frames = video_BCFHW[0].movedim(0, -1).add(1).div(2)
        latents = self._vae.encode(frames)
        return Posterior(latents, torch.zeros_like(latents))


def make_vae(
    config: VAEConfig, tensors: Mapping[str, Tensor], what: str, *, disable_dynamic: bool = False
) -> comfy.sd.VAE:
    """A VAE object of ComfyUI around the core's network, filled with `tensors`.

    Raises:
        CheckpointError: Tensors are missing, unexpected or have a wrong shape.
    """
    network = load_network(
        lambda: VideoVAE(config, operations=comfy.ops.manual_cast),
        tensors,
        what=what,
        progress=NodeProgress(),
    )
    vae = _vae_with_defaults()  # differences are set below
    vae.first_stage_model = network
    vae.latent_channels = config.latent_channels
    vae.latent_dim = 3
    vae.upscale_ratio = (_pixel_frames, SPATIAL_FACTOR, SPATIAL_FACTOR)
    vae.upscale_index_formula = (TEMPORAL_FACTOR, SPATIAL_FACTOR, SPATIAL_FACTOR)
    vae.downscale_ratio = (_latent_frames, SPATIAL_FACTOR, SPATIAL_FACTOR)
    vae.downscale_index_formula = vae.upscale_index_formula
    vae.working_dtypes = [torch.bfloat16, torch.float32]
    vae.device = comfy.model_management.vae_device()
    vae.vae_dtype = comfy.model_management.vae_dtype(vae.device, vae.working_dtypes)
    vae.output_device = comfy.model_management.intermediate_device()
    vae.memory_used_decode = lambda shape, dtype: decode_bytes(config, shape, dtype)
    vae.memory_used_encode = lambda shape, dtype: encode_bytes(config, shape, dtype)
    offload_device = comfy.model_management.vae_offload_device()
    vae.patcher = make_patcher(network, vae.device, offload_device, disable_dynamic=disable_dynamic)
    remember_how(vae.patcher, _vae_patcher, config, tensors, what)
    return vae


def _vae_with_defaults() -> comfy.sd.VAE:
    """A VAE object with all defaults of this ComfyUI, and no network yet.

    ComfyUI warns that it has none, which would read like a failure.
    """
    ours, log = threading.get_ident(), logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != ours or "No VAE weights detected" not in record.getMessage()

    log.addFilter(keep)
    try:
        return comfy.sd.VAE(sd={})
    finally:
        log.removeFilter(keep)


def _vae_patcher(*arguments: Any, disable_dynamic: bool = False) -> Any:
    return make_vae(*arguments, disable_dynamic=disable_dynamic).patcher


def _pixel_frames(latent_frames: int) -> int:
    return max(0, latent_frames * TEMPORAL_FACTOR - TEMPORAL_FACTOR + 1)


def _latent_frames(pixel_frames: int) -> int:
    return max(0, math.floor((pixel_frames + TEMPORAL_FACTOR - 1) / TEMPORAL_FACTOR))


def easyanimate_vae(vae: comfy.sd.VAE) -> VideoVAE:
    """The network of a VAE of this pack; raises `InputError` for any other."""
    network = getattr(vae, "first_stage_model", None)
    if not isinstance(network, VideoVAE):
        raise InputError(
            f"The VAE is a {type(network).__name__}, not EasyAnimate's. Connect the VAE output of "
            "EasyAnimate Load Checkpoint or EasyAnimate Load VAE."
        )
    return network


def decode_bytes(
    config: VAEConfig, shape: Sequence[int], dtype: torch.dtype, tile_side: int = 0
) -> int:
    """Estimated peak memory to decode latents [B, C, F, H, W], in tiles unless `side` is 0."""
    frames, height, width = shape[2:]
    working = activations.decode_bytes(config, (frames, height, width), dtype, tile_side or None)
    return int(shape[0] * working * (1 + ALLOCATOR_SHARE))


def encode_bytes(config: VAEConfig, shape: Sequence[int], dtype: torch.dtype) -> int:
    """Estimated peak memory to encode a clip [B, C, F, H, W]."""
    frames, height, width = shape[2:]
    working = activations.encode_bytes(config, (frames, height, width), dtype)
    return int(shape[0] * working * (1 + ALLOCATOR_SHARE))


def decode_frames(vae: comfy.sd.VAE, latents_BCfhw: Tensor, tile_side: int | None) -> Tensor:
    """Decode to frames [B * F, H, W, 3] in [0, 1], in tiles that fit the free memory.

    Args:
        vae: A VAE of this pack.
        latents_BCfhw: Unscaled latents.
        tile_side: Side of the tiles in pixels, 0 for no tiles; None chooses by free memory.

    If memory runs out, the next smaller tiles are tried; the latents are not lost.
    """
    network = easyanimate_vae(vae)
    network.check_latents(latents_BCfhw)
    sides = _sides_to_try(vae, latents_BCfhw, tile_side)
    for side in sides:
        try:
            samples = [_decode_one(vae, sample, side) for sample in latents_BCfhw.split(1)]
            return torch.cat(samples)
        except comfy.model_management.OOM_EXCEPTION:
            if side == sides[-1]:
                raise
            logger.warning("Ran out of memory decoding in tiles of %s; trying smaller ones.", side)
        comfy.model_management.soft_empty_cache()
    raise AssertionError("the last side raises or returns")


def _sides_to_try(vae: comfy.sd.VAE, latents: Tensor, tile_side: int | None) -> list[int]:
    """Tile sides to try, the preferred one first; 0 means no tiles."""
    if tile_side is not None:
        return [tile_side, *(side for side in TILE_SIDES if side < (tile_side or math.inf))]
    config = easyanimate_vae(vae).config
    free = comfy.model_management.get_free_memory(vae.device)
    one = (1, *latents.shape[1:])
    sides = [0, *sides_for(*(side * SPATIAL_FACTOR for side in latents.shape[3:]))]
    fitting = [side for side in sides if decode_bytes(config, one, vae.vae_dtype, side) < free]
    return fitting or sides[-1:]


def _decode_one(vae: comfy.sd.VAE, latents_1Cfhw: Tensor, side: int) -> Tensor:
    network = easyanimate_vae(vae)
    needed = decode_bytes(network.config, latents_1Cfhw.shape, vae.vae_dtype, side)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=needed)
    latents = latents_1Cfhw.to(vae.device, vae.vae_dtype)
    progress = NodeProgress()
    if side:
        video = decode_tiled(network, latents, Tiles.of_side(side), progress=progress)
    else:
        video = network.decode(latents, progress=progress)
    return from_model_range(video[0].to(vae.output_device))
