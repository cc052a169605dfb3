"""Reading GGUF files: a denoiser whose matrices are stored in low-bit blocks.

The package `gguf` dequantizes the blocks; headers are read in `gguf_header`.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import CheckpointError
from ...files.mapped import FileBytes
from .gguf_header import GGUFTensor, read_gguf_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GGUF_SUFFIX = ".gguf"
#: Value of `general.architecture`. No other program has defined one for these models.
ARCHITECTURE = "easyanimate"
#: Fields with the true shape of a tensor that a converter reshaped into rows of whole blocks.
_FOLDED = "comfy.gguf.orig_shape."
#: Number of values unpacked at a time, because unpacking makes several copies.
_VALUES_AT_ONCE = 1 << 24


class GGUFFile:
    """The tensors of a GGUF file by name. The file is open only while it is read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._bytes = FileBytes(file)
        header = read_gguf_header(file)
        self._tensors, self._texts = header.tensors, header.texts
        self._shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        for key, shape in header.lists.items():
            name = key.removeprefix(_FOLDED)
            if key.startswith(_FOLDED) and name in self._shapes:
                self._shapes[name] = self._unfolded(name, shape)

    def keys(self) -> list[str]:
        """The tensors' names."""
        return list(self._tensors)

    def metadata(self) -> dict[str, str]:
        """The string fields."""
        return self._texts

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """The name of the format, such as Q8_0 or BF16, and the shape."""
        return self._tensors[name].kind, self._shapes[name]

    def get_tensor(self, name: str) -> Tensor:
        """A tensor as stored (F32, F16, BF16), or unpacked to float32.

        Tensors as stored may be kept: they are backed by the memory map, unless the file is small.

        Raises:
            CheckpointError: The package `gguf` cannot unpack this format.
        """
        tensor = self._tensors[name]
        keeps = tensor.kind in _plain_dtypes()
        take = self._bytes.kept if keeps else self._bytes.copied
        return self._made(name, take(tensor.start, tensor.num_bytes))

    def read_tensor(self, name: str) -> Tensor:
        """Like `get_tensor`, in its own memory."""
        tensor = self._tensors[name]
        return self._made(name, self._bytes.copied(tensor.start, tensor.num_bytes))

    def _made(self, name: str, content: Tensor) -> Tensor:
        import torch

        tensor, shape = self._tensors[name], self._shapes[name]
        dtype = _plain_dtypes().get(tensor.kind)
        if dtype is not None:
            return content.view(dtype).reshape(shape)
        return torch.from_numpy(self._unpacked(name, tensor, content.numpy())).reshape(shape)

    def _unfolded(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        stored = self._tensors[name].shape
        if prod(shape) != prod(stored) or min(shape, default=0) < 1:
            raise CheckpointError(
                f"{name} of {self._file} is stored as {stored}, but {_FOLDED}{name} is {shape}, "
                "a different number of values. The file is damaged: convert or download it again."
            )
        return shape

    def _unpacked(self, name: str, tensor: GGUFTensor, data: np.ndarray) -> np.ndarray:
        from gguf import GGMLQuantizationType, quants

        width = tensor.shape[-1]
        num_rows = prod(tensor.shape) // width
        rows = data.reshape(num_rows, -1)
        values = np.empty((num_rows, width), np.float32)
        at_once = max(1, _VALUES_AT_ONCE // width)
        try:
            for start in range(0, num_rows, at_once):
                part = slice(start, start + at_once)
                values[part] = quants.dequantize(rows[part], GGMLQuantizationType[tensor.kind])
        except NotImplementedError as error:
            raise CheckpointError(
                f"{name} of {self._file} is stored as {tensor.kind}, which the package gguf cannot "
                "unpack. Use a file of another type, such as Q8_0 or Q4_K."
            ) from error
        return values


def _plain_dtypes() -> dict[str, torch.dtype]:
    import torch

    return {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
