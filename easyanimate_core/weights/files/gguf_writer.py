"""Writing GGUF files tensor by tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from .gguf_file import ARCHITECTURE
from .writer import Entry

if TYPE_CHECKING:
    from torch import Tensor

#: llama.cpp's names for `general.file_type`, the type of most values.
_FILE_TYPES = {
    "F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0",
    "Q5_1": "MOSTLY_Q5_1", "Q5_0": "MOSTLY_Q5_0", "Q4_1": "MOSTLY_Q4_1", "Q4_0": "MOSTLY_Q4_0",
}  # fmt: skip


class GGUFStream:
    """Writes a GGUF file piece by piece, with the tensors in the order of `entries`.

    Use as a context manager. Leaving it without an exception asserts that every byte was written.
    """

    def __init__(
        self, path: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str]
    ) -> None:
        from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType

        self._left = {name: packed_bytes(entry) for name, entry in entries.items()}
        self._pieces: list[np.ndarray] = []
        self._writer = GGUFWriter(path, ARCHITECTURE)
        most = Counter({name: prod(entry.shape) for name, entry in entries.items()}).most_common(1)
        self._writer.add_file_type(LlamaFileType[_FILE_TYPES[entries[most[0][0]].dtype]])
        self._writer.add_quantization_version(GGML_QUANT_VERSION)
        for key, text in metadata.items():
            self._writer.add_string(key, text)
        for name, entry in entries.items():
            self._writer.add_tensor_info(
                name,
                entry.shape,
                np.dtype(np.float32),  # uint8 would mean that the shape is in bytes
                self._left[name],
                raw_dtype=GGMLQuantizationType[entry.dtype],
            )

    def __enter__(self) -> GGUFStream:
        self._writer.write_header_to_file()
        self._writer.write_kv_data_to_file()
        self._writer.write_ti_data_to_file()
        return self

    def append(self, name: str, values: Tensor) -> None:
        """Write the next values of a tensor."""
        import torch

        assert name == next(iter(self._left)), f"{name} is not the next tensor"
        data = values.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        self._pieces.append(data)
        self._left[name] -= data.nbytes
        assert self._left[name] >= 0, f"too many values for {name}"
        if self._left[name] == 0:
            del self._left[name]
            whole = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces)
            self._writer.write_tensor_data(whole)
            self._pieces.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            assert not self._left, f"not written: {list(self._left)}"
            self._writer.flush()
        self._writer.close()


def packed_bytes(entry: Entry) -> int:
    """Size of a tensor in GGUF, in bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[entry.dtype]]
    return prod(entry.shape) // values * size
