"""Decides which of a denoiser's stored weights this ComfyUI can compute with."""

from __future__ import annotations

from collections.abc import Collection

import comfy.model_management
import comfy.quant_ops
import torch
from torch import Tensor

from ...easyanimate_core.memory.cards import Card
from ...easyanimate_core.weights.files import TensorFiles, in_original_names
from ...easyanimate_core.weights.stored import Stored, StoredWeights
from ...easyanimate_core.weights.stored.storage import UNPACKED_DTYPE


def holds_float8(device: torch.device) -> bool:
    """Whether a device supports fp8 weights; Mac GPUs do not."""
    return Card(device.type, device.type).holds_float8


def denoiser_weights(files: TensorFiles) -> StoredWeights:
    """A denoiser's weights by the original's names; `native` ones keep ComfyUI's formats."""
    return StoredWeights(in_original_names(files), native=_native_formats())


def _native_formats() -> Collection[str]:
    """The formats that this ComfyUI's layers can compute with on its device.

    None on a Mac: its GPU has no fp8, and PyTorch has no int8 product for it (`_int_mm`).
    """
    return getattr(comfy.quant_ops, "QUANT_ALGOS", {}) if _float8() else ()


def unpacked_from(weight: Stored) -> str | None:
    """The format that a weight is unpacked from on loading, None if it is not."""
    if not isinstance(weight, Tensor):
        return weight.format_name
    cast = weight.dtype in (torch.float8_e4m3fn, torch.float8_e5m2)
    return "fp8" if cast and not _float8() else None


def stays(weights: StoredWeights, name: str) -> bool:
    """Whether to leave a weight unchanged: in a format of ComfyUI's, or plain fp8."""
    weight = weights[name]
    cast = isinstance(weight, Tensor) and weight.dtype is torch.float8_e4m3fn
    return name in weights.native or (cast and _float8())


def stored_dtype(weights: StoredWeights) -> torch.dtype:
    """The dtype of a denoiser's unquantised layers; bfloat16 if weights are unpacked."""
    matrix, first = weights["transformer_blocks.0.attn1.to_q.weight"], weights["proj.weight"]
    if unpacked_from(matrix) or unpacked_from(first):
        return UNPACKED_DTYPE
    return first.dtype


def _float8() -> bool:
    return holds_float8(comfy.model_management.get_torch_device())
