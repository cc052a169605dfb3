"""Merging LoRAs into the weights of a denoiser file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...errors import CheckpointError, InputError
from ...files import Result, atomic_file, check_results
from ...files.kinds import is_safetensors
from ...progress import Progress, silent
from ..files import TensorFiles
from ..files.key_maps_transformer import to_original
from ..files.writer import Entry, SafetensorsWriter, check_space, file_bytes
from .file import Lora, matrix_shapes
from .lora_set import LoraSet

#: Dtypes that weights can be merged in, as spelled in files.
MERGED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def merge_loras(
    files: TensorFiles,
    loras: Sequence[Lora],
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[str, ...]:
    """Write `files` with the LoRAs merged in; returns a sentence on each LoRA's coverage.

    The tensors keep their names. They are read, changed in float32, rounded once and written one by
    one; the file is written completely or not at all.

    Args:
        files: The denoiser, in float32, bfloat16 or float16.
        loras: The LoRAs to merge.
        out: The .safetensors file.
        dtype: Dtype of all written tensors; None keeps each tensor's own.
        metadata: Added to the metadata of `files` in the header.
        force: Whether an existing safetensors file may be replaced.
        progress: Reports the stage "merge".

    Raises:
        CheckpointError: A LoRA does not fit, the weights are quantised, a result is too large for
            the dtype, or the disk is too small.
        InputError: `out` does not end in .safetensors, or exists and may not be replaced.
        MediaError: `out` cannot be written.
    """
    _check_output(out, [*files.files, *(lora.path for lora in loras)], force=force)
    _check_plain(files)
    change = LoraSet.read(loras, matrix_shapes(files))
    words = {kind: word for word, kind in MERGED_DTYPES.items()}
    kinds = {name: dtype or MERGED_DTYPES[info.dtype] for name, info in files.items()}
    entries = {name: Entry(words[kinds[name]], info.shape) for name, info in files.items()}
    facts = {**files.metadata, **(metadata or {})}
    check_space(out, file_bytes(entries, facts))
    tensors = files.read()
    _check_biases(files, change)
    with atomic_file(out) as scratch, SafetensorsWriter(scratch, entries, facts) as writer:
        for done, name in enumerate(files, start=1):
            writer.append(name, _cast(name, _changed(name, tensors[name], change), kinds[name]))
            progress("merge", done, len(files))
    return change.reports


def _changed(name: str, tensor: Tensor, change: LoraSet) -> Tensor:
    module, _, kind = to_original(name).rpartition(".")
    delta = None
    if module in change.modules:
        delta = change.delta(module, tensor) if kind == "weight" else change.bias_delta(module)
    return tensor if delta is None else tensor.float() + delta


def _check_biases(files: TensorFiles, change: LoraSet) -> None:
    biases = {to_original(name) for name in files}
    for module in change.modules:
        if change.bias_delta(module) is not None and f"{module}.bias" not in biases:
            raise CheckpointError(
                f"The LoRA changes the bias of {module}, which has none in {files.path}: it was "
                "made for another model. Choose the matching file."
            )


def _check_output(out: Path, sources: Sequence[str | os.PathLike[str]], *, force: bool) -> None:
    if out.suffix.lower() != ".safetensors":
        raise InputError(f"The output is {out.name!r}; it must end in .safetensors.")
    result = Result(out, "safetensors file", is_safetensors)
    check_results([result], sources=sources, force=force)


def _check_plain(files: TensorFiles) -> None:
    for name, info in files.items():
        if info.dtype not in MERGED_DTYPES:
            raise CheckpointError(
                f"{name} is stored as {info.dtype}. LoRAs can be merged only into float32, "
                "bfloat16 or float16 weights; in fewer bits they would be lost to rounding. Use "
                "the unquantised file."
            )


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.isfinite().all():
        raise CheckpointError(
            f"{name} has NaN or infinite values, in the model itself or after merging. The model "
            "is damaged, or the strength is too large: download the model again, or lower it."
        )
    cast = tensor.to(dtype)
    if not cast.isfinite().all():
        raise CheckpointError(
            f"{name} has values beyond the range of {str(dtype).removeprefix('torch.')}. Choose "
            "bfloat16 or float32."
        )
    return cast
