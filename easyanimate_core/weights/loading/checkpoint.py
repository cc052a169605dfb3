"""A checkpoint's denoiser and VAE, ready to use."""

from __future__ import annotations

import torch
from torch import nn

from ...models.ops import ManualCast, Operations
from ...models.transformer import EasyAnimateTransformer3DModel
from ...models.vae import AutoencoderKLMagvit
from ...progress import Progress, silent
from ..files import CheckpointInfo, in_original_names
from ..stored import Quantizer, StoredWeights
from .assign import build_on_meta, check_complete, load_network


def check_weights(info: CheckpointInfo) -> None:
    """Raise `CheckpointError` unless denoiser and VAE are complete, by the files' headers alone.

    The loaders check the same; this refuses a checkpoint before any work is done with it.
    """
    networks = (
        (
            "denoiser",
            in_original_names(info.transformer_files),
            lambda: EasyAnimateTransformer3DModel(info.transformer),
        ),
        ("VAE", info.vae_files, lambda: AutoencoderKLMagvit(info.vae)),
    )
    for name, files, build in networks:
        network: nn.Module = build_on_meta(build, what=_name(info, name))
        expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
        found = {key: weight.shape for key, weight in files.weights.items()}
        check_complete(expected, found, what=_name(info, name))


def _name(info: CheckpointInfo, network: str) -> str:
    return f"{info.version.value} {info.head.value} {network}"


def load_transformer(
    info: CheckpointInfo,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    operations: Operations = ManualCast,
    quantization: str = "none",
    progress: Progress = silent,
) -> EasyAnimateTransformer3DModel:
    """Load the denoiser of a checkpoint in either layout.

    `quantization`, one of `memory.QUANTIZATIONS`, applies to its large matrices; `dtype` to the
    other weights. Matrices stored in 8 bits are kept; those in GGUF blocks are unpacked one by one,
    to bfloat16 if no dtype is requested.

    Raises:
        CheckpointError: Tensors are missing, unexpected or of the wrong shape.
    """
    return load_network(
        lambda: EasyAnimateTransformer3DModel(info.transformer, operations=operations),
        StoredWeights(in_original_names(info.transformer_files)),
        what=_name(info, "denoiser"),
        dtype=dtype,
        device=device,
        quantizer=None if quantization == "none" else Quantizer(quantization),
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
    """Load the VAE of a checkpoint in either layout.

    Raises:
        CheckpointError: Tensors are missing, unexpected or of the wrong shape.
    """
    return load_network(
        lambda: AutoencoderKLMagvit(info.vae, operations=operations),
        info.vae_files.map(),
        what=_name(info, "VAE"),
        dtype=dtype,
        device=device,
        progress=progress,
    )
