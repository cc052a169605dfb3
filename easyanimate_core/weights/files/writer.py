"""Writing safetensors tensor by tensor: first the header, from the shapes alone, then the values.

`safetensors.torch.save_file` needs all tensors at once, which for these networks exceeds the memory
of most machines.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ...errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

#: Bytes per value, by dtype as spelled in headers.
ITEM_BYTES = {
    "F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_ALIGNMENT = 8


@dataclass(frozen=True)
class Entry:
    """A tensor to write: its dtype as spelled in headers, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of its values."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


class SafetensorsWriter:
    """Writes a safetensors file piece by piece, with the tensors in any order.

    Use as a context manager. Leaving it without an exception asserts that every byte was written.
    """

    def __init__(
        self, path: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str]
    ) -> None:
        self._path = path
        self._header, self._begins = _layout(entries, metadata)
        self._ends = {name: self._begins[name] + entries[name].num_bytes for name in entries}

    def __enter__(self) -> SafetensorsWriter:
        self._file = self._path.open("wb")
        self._file.write(self._header)
        return self

    def append(self, name: str, values: Tensor) -> None:
        """Write the next values of a tensor, in row order and in its entry's dtype."""
        import torch

        data = values.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
        begin = self._begins[name]
        assert begin + data.nbytes <= self._ends[name], f"too many values for {name}"
        self._file.seek(len(self._header) + begin)
        self._file.write(data)
        self._begins[name] = begin + data.nbytes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            left = [name for name, end in self._ends.items() if self._begins[name] != end]
            assert not left, f"not written: {left}"
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()


def file_bytes(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> int:
    """Size of a file with these entries."""
    header, _ = _layout(entries, metadata)
    return len(header) + sum(entry.num_bytes for entry in entries.values())


def check_space(target: Path, needed: int) -> None:
    """Raise `CheckpointError` unless `needed` bytes are free on the disk of `target`."""
    place = next(parent for parent in target.resolve().parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise CheckpointError(
            f"{target} takes {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free on that "
            "disk. Free some space, write elsewhere, or choose a smaller dtype."
        )


def write_index(path: Path, shards: Mapping[str, Sequence[str]], total_bytes: int) -> None:
    """Write the `*.safetensors.index.json` of a sharded folder.

    `shards` maps file names to the names of their tensors.
    """
    weight_map = {name: file for file, names in shards.items() for name in names}
    content = {
        "metadata": {"total_size": total_bytes},
        "weight_map": dict(sorted(weight_map.items())),
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _layout(
    entries: Mapping[str, Entry], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """The header and each tensor's offset: the widest dtypes first, so that all are aligned."""
    order = sorted(entries, key=lambda name: (-ITEM_BYTES[entries[name].dtype], name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begins: dict[str, int] = {}
    position = 0
    for name in order:
        entry = entries[name]
        end = position + entry.num_bytes
        header[name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [position, end],
        }
        begins[name], position = position, end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text, begins
