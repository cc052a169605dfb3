"""Weights as files store them, and which of them this ComfyUI's layers can compute with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import comfy.model_management
import comfy.quant_ops
import torch
from torch import Tensor

from ...easyanimate_core.errors import CheckpointError
from ...easyanimate_core.files import json_value
from ...easyanimate_core.memory.cards import Card
from ...easyanimate_core.weights.files import TensorFiles
from ...easyanimate_core.weights.files.key_maps_transformer import to_original
from ...easyanimate_core.weights.files.scaled import (
    INPUT_SCALE,
    MARKER,
    SIDE_TENSORS,
    note_name,
    scale_name,
)
from ...easyanimate_core.weights.files.spellings import DENOISER_WORDS, without_words
from ...easyanimate_core.weights.stored import (
    STORAGE_FORMATS,
    PackedWeight,
    ScaledWeight,
    StoredWeights,
)
from ...easyanimate_core.weights.stored.storage import (
    UNPACKED_DTYPE,
    is_packed,
    note_of,
    read_note,
    stored_format,
)

_OURS = {kind.note: name for name, kind in STORAGE_FORMATS.items()}
_PLAIN_FLOAT8 = ("F8_E4M3", "F8_E5M2")
#: ComfyUI's key of a header that holds the notes of all layers.
_NOTES = "_quantization_metadata"


def holds_float8(device: torch.device) -> bool:
    """Whether weights can lie on a device in fp8; a Mac's GPU has no such dtype."""
    return Card(device.type, device.type).holds_float8


def _native_formats() -> Collection[str]:
    """The formats that this ComfyUI's layers compute with on its device.

    On a Mac none: its GPU has no fp8, and PyTorch no product of int8 for it (`_int_mm`).
    """
    device = comfy.model_management.get_torch_device()
    return getattr(comfy.quant_ops, "QUANT_ALGOS", {}) if holds_float8(device) else ()


def denoiser_weights(files: TensorFiles) -> Mapping[str, Any]:
    """A denoiser's tensors by the original's names, as this ComfyUI can take them."""
    files = files.renamed({to_original(name): name for name in files})
    if any(is_packed(info) for info in files.values()):
        return StoredWeights(files)
    return ReadableWeights(files)


class ReadableWeights(Mapping[str, Any]):
    """Tensors as this ComfyUI can take them.

    Weights of which its layers know the format stay as they are, beside their scales and a note,
    which is made where the file has none. Others that the core knows come as `ScaledWeight`,
    without the tensors beside them, and so does what is plainly cast to fp8 where the device has
    none; `unpacked` names their formats.

    Raises:
        CheckpointError: A format that neither knows, or a scale that is missing.
    """

    def __init__(self, files: TensorFiles) -> None:
        self._tensors: Mapping[str, Any] = files.map()
        self._scaled: dict[str, str] = {}
        self._made: dict[str, Tensor] = {}
        self._hidden = {MARKER}
        native = _native_formats()
        for weight, content in self._formats(files).items():
            stated = content.get("format")
            if stated in _OURS and scale_name(weight) not in files:
                raise CheckpointError(
                    f"{weight} is stored as {stated} and has no scale ({scale_name(weight)}). "
                    "Download or convert the file again."
                )
            if stated not in native:
                self._scaled[weight] = _known(weight, stated)
                self._hidden |= {side(weight) for side in (scale_name, note_name)}
            elif note_name(weight) not in files:
                self._made[note_name(weight)] = note_of(content)
        # A scale of 1 for activations is a placeholder: with it they would be cut off in fp8.
        self._hidden |= {
            name
            for name in files
            if name.endswith(INPUT_SCALE) and bool((self._tensors[name] == 1).all())
        }
        self._plain: set[str] = set()
        if not holds_float8(comfy.model_management.get_torch_device()):
            self._plain = {name for name in files if files[name].dtype in _PLAIN_FLOAT8}
            self._plain -= self._scaled.keys() | self._hidden
        self._names = [name for name in files if name not in self._hidden] + list(self._made)

    def _formats(self, files: TensorFiles) -> dict[str, Mapping[str, object]]:
        """What is said about every scaled weight: by its note, by the header, or by its scale."""
        stated = _stated_notes(files.metadata.get(_NOTES))
        marker = files.get(MARKER)
        full = {"full_precision_matrix_mult": True} if marker and marker.numel == 2 else {}
        found: dict[str, Mapping[str, object]] = {}
        for weight in files.weights:
            if note_name(weight) in files:
                found[weight] = read_note(self._tensors[note_name(weight)])
            elif weight in stated:
                found[weight] = stated[weight]
            elif (kind := stored_format(files, weight)) is not None:
                found[weight] = {"format": STORAGE_FORMATS[kind].note, **full}
        return found

    @property
    def unpacked(self) -> set[str]:
        """Formats that are unpacked while loading."""
        return {*self._scaled.values(), *(["fp8"] if self._plain else [])}

    def __getitem__(self, name: str) -> Any:
        if name in self._made:
            return self._made[name]
        if name in self._hidden:
            raise KeyError(name)
        if name in self._scaled:
            scale = self._tensors[scale_name(name)].float()
            return ScaledWeight(self._tensors[name], scale)
        if name in self._plain:
            return ScaledWeight(self._tensors[name], torch.ones(()))
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _stated_notes(text: str | None) -> dict[str, Mapping[str, object]]:
    """The header's notes by the original's names of the weights."""
    if text is None:
        return {}
    remedy = "Download or convert the file again."
    name = f"{_NOTES} in the file's header"
    layers = json_value(text, dict, name, error=CheckpointError, remedy=remedy).get("layers")
    if not isinstance(layers, dict) or not all(isinstance(n, dict) for n in layers.values()):
        raise CheckpointError(
            f"{_NOTES} in the file's header is damaged. Download or convert the file again."
        )
    return {
        to_original(f"{without_words(layer, DENOISER_WORDS)}.weight"): note
        for layer, note in layers.items()
    }


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
    unpacked = any(isinstance(value, ScaledWeight | PackedWeight) for value in (matrix, first))
    return UNPACKED_DTYPE if unpacked else first.dtype


def _known(weight: str, stated: object) -> str:
    if stated not in _OURS:
        raise CheckpointError(
            f"{weight} is stored as {stated!r}, which this ComfyUI does not know. Update ComfyUI, "
            "or use a file in bf16."
        )
    return _OURS[str(stated)]
