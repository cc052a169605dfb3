"""The single reader of weights: the form that each is stored in, and its side tensors."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...files import json_value, text_of
from ..files.scaled import (
    MARKER,
    SCALED_DTYPES,
    check_scales,
    input_scale_name,
    note_name,
    own_names,
    scale_name,
)
from ..files.spellings import DENOISER_WORDS, without_words
from ..files.tensor_files import TensorFiles, TensorInfo
from ..files.writer import ITEM_BYTES
from .storage import STORAGE_FORMATS, PackedWeight, ScaledWeight, Stored, format_of, note_of

#: ComfyUI's header key for the notes of all layers.
_HEADER_NOTES = "_quantization_metadata"
_OURS = {kind.note: name for name, kind in STORAGE_FORMATS.items()}

Note = Mapping[str, object]


def stored_format(files: Mapping[str, TensorInfo], name: str) -> str | None:
    """The weight's format, a key of `STORAGE_FORMATS`, from headers; None if it has no scale."""
    scale = files.get(scale_name(name))
    return None if scale is None else format_of(files[name].dtype == "I8", scale.numel)


class StoredWeights(Mapping[str, Stored]):
    """A component's weights by name, each in the form that it is stored in.

    A weight with a scale is a `ScaledWeight`, one in GGUF blocks a `PackedWeight`, any other,
    including plain fp8 casts, a tensor.

    Args:
        files: The component.
        mapped: Whether the weights stay mapped, so that they may be kept; else each is read into
            memory.
        native: Formats, named as in ComfyUI's notes, that the caller's layers compute with. Weights
            in them are returned as tensors, with their side tensors from `beside`.

    Raises:
        CheckpointError: A scale is missing or superfluous, or a weight's note has a format that is
            neither supported nor native.
    """

    def __init__(
        self, files: TensorFiles, *, mapped: bool = True, native: Collection[str] = ()
    ) -> None:
        self._files, self._infos = files, files.weights
        self._tensors = files.map() if mapped else files.read()
        self._notes = self._read_notes()
        self.native = {name for name, note in self._notes.items() if note.get("format") in native}
        others = {n for n in self.native if self._notes[n].get("format") not in _OURS}
        theirs = {own for name in others for own in own_names(name)}
        known = {name: info for name, info in files.items() if name not in theirs}
        check_scales(known, what=str(files.path))
        for name in self._notes.keys() - others:
            self._check(name, {*_OURS, *native})

    def __getitem__(self, name: str) -> Stored:
        info = self._infos[name]
        if name in self._notes and name not in self.native:
            scale = self._tensors[scale_name(name)].float()
            return ScaledWeight(self._tensors[name], _broadcast(scale, len(info.shape)))
        if info.dtype not in ITEM_BYTES:
            return PackedWeight(torch.Size(info.shape), lambda: self._tensors[name])
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def beside(self, name: str) -> dict[str, Tensor]:
        """The scales of a native weight, and its note, created if the file has none."""
        if name not in self.native:
            return {}
        _, *sides = own_names(name)
        found = {side: self._tensors[side] for side in sides if side in self._files}
        activations = found.get(input_scale_name(name))
        # A scale of 1 for activations is a placeholder; it would clip them in fp8.
        if activations is not None and bool((activations == 1).all()):
            del found[input_scale_name(name)]
        return found | {note_name(name): note_of(self._notes[name])}

    def _read_notes(self) -> dict[str, Note]:
        """The note of every scaled weight: its own, the header's, or derived from its scale."""
        stated = _header_notes(self._files.metadata.get(_HEADER_NOTES))
        marker = self._files.get(MARKER)
        full = {"full_precision_matrix_mult": True} if marker and marker.numel == 2 else {}
        notes: dict[str, Note] = {}
        for name in self._infos:
            if note_name(name) in self._files:
                notes[name] = _parsed(self._tensors[note_name(name)])
            elif (layer := _layer(self._infos[name].stored)) in stated:
                notes[name] = stated[layer]
            elif (kind := stored_format(self._files, name)) is not None:
                notes[name] = {"format": STORAGE_FORMATS[kind].note, **full}
        return notes

    def _check(self, name: str, known: Collection[str]) -> None:
        note, dtype = self._notes[name], self._infos[name].dtype
        odd = name not in self.native and (note.get("convrot") or "params" in note)
        if note.get("format") not in known or odd:
            raise CheckpointError(
                f"{name} is stored as {json.dumps(dict(note))}; supported are "
                f"{', '.join(sorted(known))}. Convert the source to one of them, or use a file in "
                "bf16."
            )
        if scale_name(name) not in self._files:
            raise CheckpointError(
                f"{name} of {self._files.path} is stored as {note['format']} but has no scale "
                f"({scale_name(name)}). Download or convert it again."
            )
        if dtype not in SCALED_DTYPES:
            raise CheckpointError(
                f"{name} of {self._files.path} has a scale but is {dtype}; scaled weights must be "
                f"{' or '.join(SCALED_DTYPES)}. Convert it again."
            )


def _header_notes(text: str | None) -> dict[str, Note]:
    """The header's notes by layer."""
    if text is None:
        return {}
    remedy = "Download or convert the file again."
    name = f"{_HEADER_NOTES} in the file's header"
    layers = json_value(text, dict, name, error=CheckpointError, remedy=remedy).get("layers")
    if not isinstance(layers, dict) or not all(isinstance(n, dict) for n in layers.values()):
        raise CheckpointError(f"{name} is damaged. {remedy}")
    return {_layer(name): note for name, note in layers.items()}


def _layer(name: str) -> str:
    """The layer's name, from that of a weight or a layer, with or without a prefix."""
    return without_words(name, DENOISER_WORDS).removesuffix(".weight")


def _parsed(tensor: Tensor) -> Note:
    """The JSON in a note; empty if it is invalid."""
    try:
        text = text_of(bytes(tensor.tolist()), "The note", error=CheckpointError)
        return json_value(text, dict, "The note", error=CheckpointError)
    except (CheckpointError, TypeError, ValueError):  # bytes() of floats, or of numbers above 255
        return {}


def _broadcast(scale: Tensor, ndim: int) -> Tensor:
    """() for one value, [N, 1] for one per row."""
    return scale.reshape(()) if scale.numel() == 1 else scale.reshape(-1, *[1] * (ndim - 1))
