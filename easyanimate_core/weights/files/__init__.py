"""Checkpoint files: reading, detecting, renaming and writing."""

from .detect import (
    CheckpointInfo,
    Layout,
    denoiser_files,
    in_original_names,
    inspect_checkpoint,
    model_size,
    read_denoiser_files,
    read_transformer_config,
    read_vae_config,
    vae_files,
)
from .json_file import read_json
from .tensor_files import TensorFiles, TensorInfo, read_tensor_files

__all__ = [
    "CheckpointInfo",
    "Layout",
    "TensorFiles",
    "TensorInfo",
    "denoiser_files",
    "in_original_names",
    "inspect_checkpoint",
    "model_size",
    "read_denoiser_files",
    "read_json",
    "read_tensor_files",
    "read_transformer_config",
    "read_vae_config",
    "vae_files",
]
