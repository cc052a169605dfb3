"""A denoiser file with LoRAs added to its weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..checkpoint import TensorFiles
from ..checkpoint.key_maps_transformer import to_original
from ..errors import CheckpointError, InputError, MediaError
from ..media import atomic_file
from ..progress import Progress, silent
from .low_rank import Lora, LoraSet, matrix_shapes

#: Dtypes that weights can be merged in, by the file's word.
MERGED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_HEADER_ALIGNMENT = 8


def merge_loras(
    files: TensorFiles,
    loras: Sequence[Lora],
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> tuple[str, ...]:
    """Write `files` with the LoRAs in their weights; returns a sentence on each LoRA's coverage.

    The tensors keep their names. They are read, changed in float32, rounded once and written one
    after the other; the file appears whole or not at all.

    Args:
        files: The denoiser, in float32, bfloat16 or float16.
        loras: What to add.
        out: A new .safetensors file.
        dtype: Of every tensor written; None keeps each one's own.
        metadata: For the file's header, beside that of `files`.
        progress: Reports the stage "merge".

    Raises:
        CheckpointError: A LoRA does not fit, the weights are quantised, or a result is too large
            for the dtype.
        InputError: `out` is no new .safetensors file.
        MediaError: `out` cannot be written.
    """
    _check_output(out)
    _check_plain(files)
    change = LoraSet.read(loras, matrix_shapes(files))
    words = {kind: word for word, kind in MERGED_DTYPES.items()}
    kinds = {name: dtype or MERGED_DTYPES[info.dtype] for name, info in files.items()}
    header: dict[str, object] = {"__metadata__": {**files.metadata, **(metadata or {})}}
    offset = 0
    for name, info in files.items():
        end = offset + info.numel * kinds[name].itemsize
        header[name] = {
            "dtype": words[kinds[name]],
            "shape": list(info.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    _check_room(out, offset)
    changed, tensors = set(change.modules), files.map()
    with atomic_file(out) as scratch, scratch.open("wb") as opened:
        _write_header(opened, header)
        for done, name in enumerate(files, start=1):
            tensor, module = tensors[name], to_original(name).removesuffix(".weight")
            if module in changed and name.endswith(".weight"):
                tensor = tensor.float() + change.delta(module)
            _write(opened, name, tensor, kinds[name])
            progress("merge", done, len(files))
    return change.reports


def _check_output(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise InputError(f"The output is {out.name!r}; it must end in .safetensors.")
    if out.exists():
        raise InputError(f"{out} is there already. Name another output, or remove it first.")


def _check_plain(files: TensorFiles) -> None:
    for name, info in files.items():
        if info.dtype not in MERGED_DTYPES:
            raise CheckpointError(
                f"{name} is stored as {info.dtype}. A LoRA is merged into float32, bfloat16 or "
                "float16 weights, because rounding would swallow it in fewer bits: give the "
                "unquantised file."
            )


def _check_room(out: Path, size: int) -> None:
    existing = next(path for path in out.absolute().parents if path.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise MediaError(
            f"{out} needs {size / 1e9:.1f} GB and {existing} has {free / 1e9:.1f} GB free. Free "
            "some space or write elsewhere."
        )


def _write_header(opened: BinaryIO, header: Mapping[str, object]) -> None:
    """Length, then JSON filled with spaces, so that the tensors are aligned."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    opened.write(len(text).to_bytes(8, "little") + text)


def _write(opened: BinaryIO, name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    written = tensor.to(dtype).contiguous()
    if not written.isfinite().all() and tensor.isfinite().all():
        raise CheckpointError(
            f"{name} has values beyond the range of {str(dtype).removeprefix('torch.')}. Choose "
            "bfloat16 or float32."
        )
    opened.write(written.reshape(-1).view(torch.uint8).numpy().data)
