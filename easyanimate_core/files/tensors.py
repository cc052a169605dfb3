"""Saves and loads safetensors files, with the usual errors for disk faults and for damage."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from .atomic import atomic_file
from .safetensors_file import SafetensorsFile, sort_metadata

if TYPE_CHECKING:
    from torch import Tensor

_DIGEST_KEY = "sha256"
_SYSTEM_ERROR = re.compile(r"os error (\d+)")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; `OSError` if the disk is full or not writable.

    The same tensors and metadata give the same bytes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
        sort_metadata(path)
    except SafetensorError as error:
        found = _SYSTEM_ERROR.search(str(error))
        if found is None:
            raise OSError(errno.EIO, str(error), str(path)) from error
        code = int(found[1])
        if sys.platform == "win32":
            raise OSError(0, str(error), str(path), code) from error
        raise OSError(code, os.strerror(code), str(path)) from error


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, spare: bool = True
) -> None:
    """Write a safetensors file atomically; `MediaError` if it cannot be written.

    The tensors' SHA-256 is added to the metadata. `spare` is passed to `atomic_file`.
    """
    with atomic_file(path, spare=spare) as temporary:
        save_tensors(temporary, tensors, {**metadata, _DIGEST_KEY: _digest(tensors)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; `ValueError` if it is damaged.

    The tensors are copied to memory, so the file may be replaced or removed. A file without a
    SHA-256 is read unchecked.
    """
    try:
        opened = SafetensorsFile(path)
        tensors = {name: opened.read_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    except (CheckpointError, OSError) as error:
        raise ValueError(str(error)) from error
    if metadata.get(_DIGEST_KEY, found := _digest(tensors)) != found:
        raise ValueError("the tensors' SHA-256 does not match the one in the metadata")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
