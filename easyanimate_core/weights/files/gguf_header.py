"""The header of a GGUF file, read with limits, because its counts cannot be trusted.

The package `gguf` reads headers value by value and trusts every length, so that half a megabyte can
take it minutes. Only string fields and short lists of integers are kept.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from ...errors import CheckpointError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
#: `struct` formats of the other value types.
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
            11: "<q", 12: "<d"}  # fmt: skip
_WHOLE = (0, 1, 2, 3, 4, 5, 10, 11)
_ALIGNMENT_KEY, _ALIGNMENT = "general.alignment", 32
#: Beyond any published file: the largest vocabularies have 260,000 words, in three lists.
_MOST_FIELDS, _MOST_TENSORS, _MOST_WORDS = 10_000, 100_000, 2_000_000
_LONGEST_KEY, _LONGEST_TEXT, _LONGEST_LIST = 65_535, 1 << 24, 16
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor is: `shape` with the slowest dimension first, `start` in bytes."""

    kind: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """The string fields, the short lists of integers, and the tensors."""

    texts: dict[str, str]
    lists: dict[str, tuple[int, ...]]
    tensors: dict[str, GGUFTensor]


def read_gguf_header(file: Path) -> GGUFHeader:
    """Read and check the header.

    Raises:
        CheckpointError: It is damaged or impossible: a tensor beyond the end of the file, more
            values than the file has bytes for.
        OSError: The file cannot be read.
    """
    with file.open("rb") as handle:
        return _Reader(file, handle).header()


class _Reader:
    def __init__(self, file: Path, handle: BinaryIO) -> None:
        self._file, self._handle = file, handle
        self._size = file.stat().st_size
        self._words = 0
        self._texts: dict[str, str] = {}
        self._lists: dict[str, tuple[int, ...]] = {}
        self._alignment = _ALIGNMENT

    def header(self) -> GGUFHeader:
        if self._take(4) != MAGIC:
            raise self._damaged("it does not start with GGUF")
        version = self._number("<I")
        if version not in _VERSIONS:
            raise self._damaged(f"its version is {version}; supported are 2 and 3, little-endian")
        num_tensors, num_fields = self._number("<Q"), self._number("<Q")
        if num_tensors > _MOST_TENSORS or num_fields > _MOST_FIELDS:
            raise self._damaged(f"it claims {num_tensors} tensors and {num_fields} fields")
        for _ in range(num_fields):
            self._field(self._text(_LONGEST_KEY))
        return GGUFHeader(self._texts, self._lists, self._tensors(num_tensors))

    def _field(self, key: str) -> None:
        kind = self._number("<I")
        if kind == _STRING:
            self._texts[key] = self._text(_LONGEST_TEXT)
        elif kind == _ARRAY:
            self._array(key)
        elif kind in _NUMBERS:
            value = self._number(_NUMBERS[kind])
            if key == _ALIGNMENT_KEY:
                self._alignment = self._checked_alignment(value)
        else:
            raise self._damaged(f"{key} has the unknown type {kind}")

    def _array(self, key: str) -> None:
        kind, length = self._number("<I"), self._number("<Q")
        if kind == _STRING:
            self._words += length
            if self._words > _MOST_WORDS:
                raise self._damaged(f"{key} claims {length} strings")
            for _ in range(length):
                self._skip(self._number("<Q"))
        elif kind in _NUMBERS:
            how = _NUMBERS[kind]
            if length <= _LONGEST_LIST and kind in _WHOLE:
                self._lists[key] = tuple(self._number(how) for _ in range(length))
            else:
                self._skip(length * struct.calcsize(how))
        else:
            raise self._damaged(f"{key} is a list of lists or of unknown type {kind}")

    def _tensors(self, count: int) -> dict[str, GGUFTensor]:
        found: dict[str, GGUFTensor] = {}
        for _ in range(count):
            name = self._text(_LONGEST_KEY)
            if name in found:
                raise self._damaged(f"{name} occurs twice")
            num_dimensions = self._number("<I")
            if num_dimensions > _MOST_DIMENSIONS:
                raise self._damaged(f"{name} has {num_dimensions} dimensions")
            shape = tuple(reversed([self._number("<Q") for _ in range(num_dimensions)]))
            kind, num_bytes = self._kind_and_bytes(name, self._number("<I"), shape)
            found[name] = GGUFTensor(kind, shape, self._number("<Q"), num_bytes)
        return self._placed(found)

    def _kind_and_bytes(self, name: str, number: int, shape: tuple[int, ...]) -> tuple[str, int]:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise self._damaged(f"{name} has the unknown type {number}") from None
        values, size = GGML_QUANT_SIZES[kind]
        if not shape or 0 in shape or shape[-1] % values:
            raise self._damaged(f"{name} is {shape}, which is not whole blocks of {values}")
        return kind.name, prod(shape) // values * size

    def _placed(self, tensors: dict[str, GGUFTensor]) -> dict[str, GGUFTensor]:
        """The tensors with `start` relative to the start of the file."""
        begin = -(-self._handle.tell() // self._alignment) * self._alignment
        total = sum(tensor.num_bytes for tensor in tensors.values())
        end = max((begin + t.start + t.num_bytes for t in tensors.values()), default=0)
        if max(end, begin + total) > self._size:
            raise self._damaged(
                f"its tensors take {max(end, begin + total)} bytes, but the file has {self._size}"
            )
        return {
            name: GGUFTensor(t.kind, t.shape, begin + t.start, t.num_bytes)
            for name, t in tensors.items()
        }

    def _checked_alignment(self, value: int) -> int:
        if not isinstance(value, int) or not 8 <= value <= 1 << 20 or value & (value - 1):
            raise self._damaged(f"its alignment is {value}")
        return value

    def _text(self, longest: int) -> str:
        length = self._number("<Q")
        if length > longest:
            raise self._damaged(f"it has a string of {length} bytes")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise self._damaged("it has a string that is not UTF-8") from None

    def _number(self, how: str) -> int:
        (value,) = struct.unpack(how, self._take(struct.calcsize(how)))
        return int(value) if how not in ("<f", "<d") else 0

    def _skip(self, num_bytes: int) -> None:
        self._check_room(num_bytes)
        self._handle.seek(num_bytes, 1)

    def _take(self, num_bytes: int) -> bytes:
        self._check_room(num_bytes)
        return self._handle.read(num_bytes)

    def _check_room(self, num_bytes: int) -> None:
        if num_bytes > self._size - self._handle.tell():
            raise self._damaged("it ends within its header")

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self._file} is not a valid GGUF file ({what}). It is damaged, or its download was "
            "interrupted: download it again."
        )
