"""Components of a checkpoint folder, written in the original layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import save_tensors
from ...models.specs import TransformerConfig, VAEConfig

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


def write_transformer(
    folder: Path, config: TransformerConfig, weights: Mapping[str, Tensor]
) -> None:
    """Write a denoiser folder: `config.json` as in the published ones, and one file."""
    content: dict[str, Any] = {
        "_class_name": "EasyAnimateTransformer3DModel",
        "activation_fn": "gelu-approximate",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "norm_elementwise_affine": True,
        "resize_inpaint_mask_directly": True,
        "time_position_encoding_type": "3d_rope",
        "timestep_activation_fn": "silu",
        **asdict(config),
    }
    if config.has_reference:
        content["add_ref_latent_in_control_model"] = True
    write_component(folder, WEIGHTS_FILE, content, weights)


def write_vae(folder: Path, config: VAEConfig, weights: Mapping[str, Tensor]) -> None:
    """Write a VAE folder."""
    content = {
        "_class_name": "AutoencoderKLMagvit",
        "act_fn": "silu",
        "cache_mag_vae": True,
        "down_block_types": ["SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3],
        "up_block_types": ["SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3],
        "mid_block_use_attention": False,
        **asdict(config),
    }
    write_component(folder, WEIGHTS_FILE, content, weights)


def write_component(
    folder: Path, file: str, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> None:
    """Create a folder with `config.json` and one file of `weights`."""
    folder.mkdir(parents=True)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_bytes(text.encode())
    whole = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_tensors(folder / file, whole, {"format": "pt"})
