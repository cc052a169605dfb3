"""Reading GGUF files: one denoiser whose matrices are stored in blocks of few bits.

The package `gguf` reads the headers and does the arithmetic of the blocks.
"""

from __future__ import annotations

import warnings
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

GGUF_SUFFIX = ".gguf"
#: Written into `general.architecture`. No other program has fixed one for these models.
ARCHITECTURE = "easyanimate"
#: Values are unpacked in groups of this many, because the arithmetic needs several copies.
_VALUES_AT_ONCE = 1 << 24


class GGUFFile:
    """The tensors of a GGUF file by name, memory-mapped."""

    def __init__(self, file: Path) -> None:
        from gguf import GGUFReader

        self._file = file
        try:
            reader = GGUFReader(file)
        except FileNotFoundError:
            raise CheckpointError(f"{file} is missing. Download it again.") from None
        except (ValueError, KeyError, IndexError, OSError, OverflowError) as error:
            raise CheckpointError(
                f"{file} is not a whole GGUF file ({error}). It is damaged or its download was cut "
                "off: download it again."
            ) from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._fields = reader.fields

    def keys(self) -> list[str]:
        """The tensors' names."""
        return list(self._tensors)

    def metadata(self) -> dict[str, str]:
        """The fields that are texts."""
        from gguf import GGUFValueType

        return {
            name: str(field.contents())
            for name, field in self._fields.items()
            if field.types == [GGUFValueType.STRING]
        }

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """The format's name, such as Q8_0 or BF16, and the shape."""
        tensor = self._tensors[name]
        return tensor.tensor_type.name, tuple(int(side) for side in reversed(tensor.shape))

    def get_tensor(self, name: str) -> Tensor:
        """A tensor as it is stored (F32, F16, BF16), or unpacked to float32.

        Raises:
            CheckpointError: The package `gguf` cannot unpack this format.
        """
        import torch

        tensor = self._tensors[name]
        kind, shape = self.info(name)
        with warnings.catch_warnings():  # the map is read-only, and nothing is written to it
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            if kind in ("F32", "F16"):
                return torch.from_numpy(tensor.data).reshape(shape)
            if kind == "BF16":
                return torch.from_numpy(tensor.data).view(torch.bfloat16).reshape(shape)
            return torch.from_numpy(self._unpacked(name, tensor, shape)).reshape(shape)

    def _unpacked(self, name: str, tensor: Any, shape: tuple[int, ...]) -> np.ndarray:
        from gguf import quants

        rows = tensor.data.reshape(-1, tensor.data.shape[-1])
        values = np.empty((rows.shape[0], shape[-1]), np.float32)
        at_once = max(1, _VALUES_AT_ONCE // shape[-1])
        try:
            for start in range(0, rows.shape[0], at_once):
                part = slice(start, start + at_once)
                values[part] = quants.dequantize(rows[part], tensor.tensor_type)
        except NotImplementedError as error:
            raise CheckpointError(
                f"{name} of {self._file} is stored as {tensor.tensor_type.name}, which the package "
                "gguf cannot unpack. Use a file of another type, such as Q8_0 or Q4_K."
            ) from error
        assert values.size == prod(shape)
        return values
