"""Files to plain tensors: reading, detecting, renaming and writing checkpoints."""

from .detect import (
    CheckpointInfo,
    Layout,
    inspect_checkpoint,
    model_size,
    read_transformer_config,
    read_vae_config,
    without_prefix,
)
from .tensor_files import TensorFiles, TensorInfo, read_json, read_tensor_files

__all__ = [
    "CheckpointInfo",
    "Layout",
    "TensorFiles",
    "TensorInfo",
    "inspect_checkpoint",
    "model_size",
    "read_json",
    "read_tensor_files",
    "read_transformer_config",
    "read_vae_config",
    "without_prefix",
]
