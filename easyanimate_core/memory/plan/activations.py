"""Activation memory of the networks for a size and a length.

The networks' own code runs on the meta device, so the figures follow every change of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from ...models.geometry import SPATIAL_FACTOR, pixel_frames
from ...models.specs import TransformerConfig, VAEConfig
from ...models.transformer import EasyAnimateTransformer3DModel
from ...models.transformer.kernel import AttentionFunction
from ...models.vae import AutoencoderKLMagvit
from ...models.vae.model import CHUNK_BYTES
from .live_memory import peak_bytes

#: Text tokens of V5.1 (Qwen2-VL), and of V5's Bert and mT5.
TEXT_TOKENS, BERT_TOKENS, T5_TOKENS = 256, 77, 256
#: Number of chunks after which the VAE's memory grows only by its finished output.
_STEADY_CHUNKS = 3


@lru_cache(maxsize=64)
def denoiser_bytes(
    config: TransformerConfig,
    size: tuple[int, int, int],
    rows: int,
    compute: torch.dtype,
    stored: torch.dtype | None = None,
) -> int:
    """Peak memory of one step, including its inputs.

    Args:
        config: The denoiser.
        size: Latent frames, height and width.
        rows: Batch size of the denoiser: the number of samples, doubled by guidance.
        compute: Compute dtype.
        stored: Dtype of the weights; if not `compute`, they are cast layer by layer.
    """
    call = denoiser_call(_one_of_each(config), size, rows, compute, stored=stored)
    step = peak_bytes(call.run, [*call.network.parameters(), *call.inputs])
    return step + sum(given.nbytes for given in call.inputs)


@dataclass(frozen=True)
class Call:
    """A step of the denoiser on the meta device, ready to run."""

    network: EasyAnimateTransformer3DModel
    inputs: tuple[Tensor, ...]
    run: Callable[[], Tensor]


def denoiser_call(
    config: TransformerConfig,
    size: tuple[int, int, int],
    rows: int,
    compute: torch.dtype,
    *,
    stored: torch.dtype | None = None,
    attention: AttentionFunction | None = None,
) -> Call:
    """A step on shapes alone; the arguments are those of `denoiser_bytes`.

    `attention` stands for the kernel, by default one that keeps no scores.
    """
    with torch.device("meta"):
        network = EasyAnimateTransformer3DModel(config).to(stored or compute)
        latents = torch.empty(rows, config.out_channels, *size, dtype=compute)
        times = torch.empty(rows)
        tokens = TEXT_TOKENS if config.text_embed_dim_t5 is None else BERT_TOKENS
        text = torch.empty(rows, tokens, config.text_embed_dim, dtype=compute)
        text_t5 = None
        if config.text_embed_dim_t5 is not None:
            text_t5 = torch.empty(rows, T5_TOKENS, config.text_embed_dim_t5, dtype=compute)
        condition = None
        if config.condition_channels:
            condition = torch.empty(rows, config.condition_channels, *size, dtype=compute)
        rope = network.rotary_table(latents)
    inputs = [latents, times, text, rope]
    inputs += [given for given in (text_t5, condition) if given is not None]

    def run() -> Tensor:
        return network(
            latents,
            times,
            text,
            text_t5=text_t5,
            condition=condition,
            rope=rope,
            attention=attention or _without_scores,
        )

    return Call(network, tuple(inputs), run)


def _one_of_each(config: TransformerConfig) -> TransformerConfig:
    """One block of each kind: blocks run one by one, so one of each kind gives the peak."""
    own = min(config.num_mmdit_layers, 1)
    shared = min(config.num_layers - config.num_mmdit_layers, 1)
    return replace(config, num_layers=own + shared, mmdit_layers=own)


def _without_scores(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:  # noqa: ARG001
    """The result of attention, for the memory of a kernel that never holds all scores at once."""
    return torch.empty_like(q_BHND).transpose(1, 2).flatten(2)


def decode_bytes(
    config: VAEConfig,
    size: tuple[int, int, int],
    compute: torch.dtype,
    tile: int | None = None,
    stored: torch.dtype | None = None,
) -> int:
    """Peak memory of decoding latents of `size` (frames, height, width), including the video.

    `tile` is the side of the tiles in pixels; None decodes whole frames. Chunks are the smallest:
    on a card with more free memory, larger ones take it.
    """
    frames, *sides = size
    tiled = tile is not None and max(sides) * SPATIAL_FACTOR > tile
    height, width = (min(side, (tile or side * SPATIAL_FACTOR) // SPATIAL_FACTOR) for side in sides)
    chunk = _decode_chunk_length(config, (height, width), compute)
    first = min(frames, 1 + (_STEADY_CHUNKS - 1) * chunk)
    peak = _decode_peak(config, (first, height, width), compute, stored or compute)
    frame = config.out_channels * SPATIAL_FACTOR**2 * compute.itemsize
    peak += (pixel_frames(frames) - pixel_frames(first)) * frame * height * width
    return peak + (pixel_frames(frames) * frame * prod(sides) if tiled else 0)


def encode_bytes(
    config: VAEConfig,
    size: tuple[int, int, int],
    compute: torch.dtype,
    tile: int | None = None,
    stored: torch.dtype | None = None,
) -> int:
    """Peak memory of encoding a clip of `size` (frames, height, width), including the clip.

    `tile` is the side of the tiles in pixels; None encodes whole frames.
    """
    frames, *sides = size
    height, width = (min(side, tile or side) for side in sides)
    first = min(frames, 1 + (_STEADY_CHUNKS - 1) * config.mini_batch_encoder)
    peak = _encode_peak(config, (first, height, width), compute, stored or compute)
    return peak + config.in_channels * prod(size) * compute.itemsize


@lru_cache(maxsize=64)
def _decode_peak(
    config: VAEConfig, size: tuple[int, int, int], compute: torch.dtype, stored: torch.dtype
) -> int:
    network = _vae(config, stored)
    latents = torch.empty(1, config.latent_channels, *size, dtype=compute, device="meta")
    return peak_bytes(
        lambda: network.decode(latents, chunk_bytes=CHUNK_BYTES), [*network.parameters(), latents]
    )


@lru_cache(maxsize=64)
def _decode_chunk_length(config: VAEConfig, sides: tuple[int, int], compute: torch.dtype) -> int:
    latents = torch.empty(1, config.latent_channels, 1, *sides, dtype=compute, device="meta")
    return _vae(config, compute).decode_chunk_length(latents, CHUNK_BYTES)


@lru_cache(maxsize=64)
def _encode_peak(
    config: VAEConfig, size: tuple[int, int, int], compute: torch.dtype, stored: torch.dtype
) -> int:
    network = _vae(config, stored)
    video = torch.empty(1, config.in_channels, *size, dtype=compute, device="meta")
    return peak_bytes(lambda: network.encode(video).mean, [*network.parameters(), video])


def _vae(config: VAEConfig, dtype: torch.dtype) -> AutoencoderKLMagvit:
    with torch.device("meta"):
        return AutoencoderKLMagvit(config).to(dtype)
