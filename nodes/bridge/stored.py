"""Weights as files store them, and which of them this ComfyUI's layers can compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import comfy.quant_ops
import torch
from torch import Tensor

from ...easyanimate_core.checkpoint.scaled import NOTE, SIDE_TENSORS, note_name, scale_name
from ...easyanimate_core.errors import CheckpointError
from ...easyanimate_core.quantization import STORAGE_FORMATS, PackedWeight, StoredWeight
from ...easyanimate_core.quantization.storage import UNPACKED_DTYPE, read_note

_OURS = {kind.note: name for name, kind in STORAGE_FORMATS.items()}


class ReadableWeights(Mapping[str, Any]):
    """Tensors as this ComfyUI can take them.

    Weights of which its layers know the format stay as they are, beside their scales. Others that
    the core knows come as `StoredWeight`, without the tensors beside them; `unpacked` names their
    formats.

    Raises:
        CheckpointError: A format that neither knows, or a scale that is missing.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors
        self._scaled: dict[str, str] = {}
        native = getattr(comfy.quant_ops, "QUANT_ALGOS", {})
        for name in tensors:
            if not name.endswith(NOTE):
                continue
            weight = name.removesuffix(NOTE) + ".weight"
            stated = read_note(tensors[name]).get("format")
            if stated in _OURS and scale_name(weight) not in tensors:
                raise CheckpointError(
                    f"{weight} is stored as {stated} and has no scale ({scale_name(weight)}). "
                    "Download or convert the file again."
                )
            if stated not in native:
                self._scaled[weight] = _known(weight, stated)
        self._hidden = {side(weight) for weight in self._scaled for side in (scale_name, note_name)}

    @property
    def unpacked(self) -> set[str]:
        """Formats that are unpacked while loading."""
        return set(self._scaled.values())

    def __getitem__(self, name: str) -> Any:
        if name in self._scaled:
            scale = self._tensors[scale_name(name)].float()
            return StoredWeight(self._tensors[name], scale)
        if name in self._hidden:
            raise KeyError(name)
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._tensors if name not in self._hidden)

    def __len__(self) -> int:
        return len(self._tensors) - len(self._hidden)


def is_native(tensors: Mapping[str, Any], name: str) -> bool:
    """Whether a tensor is to stay as it is: one of a quantised layer, or plain fp8."""
    if name.endswith(SIDE_TENSORS) or note_name(name) in tensors:
        return True
    value = tensors[name]
    return isinstance(value, Tensor) and value.dtype == torch.float8_e4m3fn


def stored_dtype(tensors: Mapping[str, Any]) -> torch.dtype:
    """The dtype of a denoiser beside its quantised layers; bfloat16 for what has to be unpacked."""
    matrix = tensors["transformer_blocks.0.attn1.to_q.weight"]
    first = tensors["proj.weight"]
    unpacked = any(isinstance(value, StoredWeight | PackedWeight) for value in (matrix, first))
    return UNPACKED_DTYPE if unpacked else first.dtype


def _known(weight: str, stated: object) -> str:
    if stated not in _OURS:
        raise CheckpointError(
            f"{weight} is stored as {stated!r}, which this ComfyUI does not know. Update ComfyUI, "
            "or use a file in bf16."
        )
    return _OURS[str(stated)]
