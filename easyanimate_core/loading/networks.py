"""A checkpoint's denoiser and VAE, ready to use."""

from __future__ import annotations

import torch

from ..checkpoint import CheckpointInfo, key_maps_transformer
from ..models.transformer import (
    AttentionFunction,
    EasyAnimateTransformer3DModel,
    scaled_dot_product,
)
from ..models.vae import AutoencoderKLMagvit
from ..ops import ManualCast, Operations
from ..progress import Progress, silent
from .assign import Renamed, load_network


def load_transformer(
    info: CheckpointInfo,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    operations: Operations = ManualCast,
    attention: AttentionFunction = scaled_dot_product,
    progress: Progress = silent,
) -> EasyAnimateTransformer3DModel:
    """The denoiser of a checkpoint in either layout.

    Raises:
        CheckpointError: Naming missing, unexpected and misshapen tensors.
    """
    tensors = Renamed(info.transformer_files.map(), key_maps_transformer.to_original)
    return load_network(
        lambda: EasyAnimateTransformer3DModel(
            info.transformer, operations=operations, attention=attention
        ),
        tensors,
        what=f"{info.version.value} {info.head.value} denoiser",
        dtype=dtype,
        device=device,
        progress=progress,
    )


def load_vae(
    info: CheckpointInfo,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    operations: Operations = ManualCast,
    progress: Progress = silent,
) -> AutoencoderKLMagvit:
    """The VAE of a checkpoint in either layout.

    Raises:
        CheckpointError: Naming missing, unexpected and misshapen tensors.
    """
    return load_network(
        lambda: AutoencoderKLMagvit(info.vae, operations=operations),
        info.vae_files.map(),
        what=f"{info.version.value} VAE",
        dtype=dtype,
        device=device,
        progress=progress,
    )
