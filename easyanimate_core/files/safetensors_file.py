"""Reads safetensors files. The header is untrusted, so everything in it is bounds-checked.

The library maps a file twice for its header and once more for its tensors, and Windows charges each
map as memory (see `mapped`). Here the header is read from the file and its offsets are used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from .json_text import json_value
from .mapped import FileBytes
from .text import text_of

if TYPE_CHECKING:
    from torch import Tensor

#: Offset of the header's JSON, after its length.
HEADER_AT = 8
#: The largest published headers have 200 kB.
_MOST_HEADER_BYTES = 32 * 1024 * 1024
_METADATA = "__metadata__"
#: Dtype in the header -> bits per value and PyTorch's name, "" if it has none.
_DTYPES = {
    "F64": (64, "float64"), "F32": (32, "float32"), "F16": (16, "float16"),
    "BF16": (16, "bfloat16"), "F8_E4M3": (8, "float8_e4m3fn"), "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"), "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "F8_E8M0": (8, "float8_e8m0fnu"), "C64": (64, "complex64"),
    "I64": (64, "int64"), "I32": (32, "int32"), "I16": (16, "int16"), "I8": (8, "int8"),
    "U64": (64, "uint64"), "U32": (32, "uint32"), "U16": (16, "uint16"), "U8": (8, "uint8"),
    "BOOL": (8, "bool"), "F4": (4, ""), "F6_E2M3": (6, ""), "F6_E3M2": (6, ""),
}  # fmt: skip
_MOST_DIMENSIONS = 16
#: More than any file holds. Empty tensors could claim more and overflow PyTorch's sizes.
_MOST_VALUES = 2**60


@dataclass(frozen=True)
class _Place:
    """Dtype, shape and byte range of a tensor in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class HeaderError(ValueError):
    """Why a file is not a valid safetensors file, as a clause."""


class SafetensorsFile:
    """The tensors of a safetensors file by name. The file is open only while it is read.

    Raises:
        CheckpointError: The file has been rewritten since, or PyTorch lacks a tensor's dtype.
        HeaderError: The file is damaged.
        OSError: The file cannot be read or mapped.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._bytes = FileBytes(file)
        self._metadata, self._places = _read_header(file, self._bytes.size)

    def keys(self) -> list[str]:
        """Names of the tensors."""
        return list(self._places)

    def metadata(self) -> dict[str, str]:
        """The file's metadata."""
        return self._metadata

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Dtype as written in the header, such as BF16, and shape."""
        return self._places[name].dtype, self._places[name].shape

    def get_tensor(self, name: str) -> Tensor:
        """A tensor backed by the file's map, or a copy if the file is small."""
        place = self._places[name]
        return self._made(name, place, self._bytes.kept(place.start, place.end - place.start))

    def read_tensor(self, name: str) -> Tensor:
        """A tensor in memory of its own."""
        place = self._places[name]
        return self._made(name, place, self._bytes.copied(place.start, place.end - place.start))

    def _made(self, name: str, place: _Place, content: Tensor) -> Tensor:
        import torch

        dtype = getattr(torch, _DTYPES[place.dtype][1], None)
        if dtype is None:
            raise CheckpointError(
                f"{name} of {self._file} is stored as {place.dtype}, which this PyTorch does not "
                "support. Use a file with another dtype, such as bfloat16."
            )
        return content.view(dtype).reshape(place.shape)


def _read_header(file: Path, size: int) -> tuple[dict[str, str], dict[str, _Place]]:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(HEADER_AT), "little")
        if not 0 < length <= size - HEADER_AT:
            raise HeaderError(f"its header claims {length} bytes, but the file has {size}")
        if length > _MOST_HEADER_BYTES:
            raise HeaderError(
                f"its header claims {length} bytes; at most {_MOST_HEADER_BYTES} are accepted"
            )
        content = opened.read(length)
    try:
        text = text_of(content, "its header", error=CheckpointError)
        header = json_value(text, dict, "its header", error=CheckpointError)
    except CheckpointError as error:
        raise HeaderError(str(error).rstrip(".")) from None
    metadata = header.pop(_METADATA, None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise HeaderError(f"{_METADATA} holds values other than text")
    places = {name: _place(name, told) for name, told in header.items()}
    _check_places(places, size - HEADER_AT - length)
    begin = HEADER_AT + length
    return metadata, {
        name: _Place(place.dtype, place.shape, begin + place.start, begin + place.end)
        for name, place in places.items()
    }


def _place(name: str, told: Any) -> _Place:
    """Validate the header's entry for a tensor."""
    told = told if isinstance(told, dict) else {}
    dtype, shape, places = (told.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise HeaderError(f"{name!r:.200} has the unknown dtype {dtype!r:.40}")
    if not _are_counts(shape) or not _are_counts(places) or len(places) != 2:
        raise HeaderError(f"{name!r:.200} has no valid shape or data_offsets")
    if len(shape) > _MOST_DIMENSIONS or prod(max(side, 1) for side in shape) > _MOST_VALUES:
        raise HeaderError(f"{name!r:.200} has an impossibly large shape")
    start, end = places
    if prod(shape) * _DTYPES[dtype][0] != 8 * (end - start):
        raise HeaderError(f"{name!r:.200} has {end - start} bytes for {list(shape)} of {dtype}")
    return _Place(dtype, tuple(shape), start, end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_places(places: dict[str, _Place], size: int) -> None:
    """Check that the tensors fill the file without gaps or overlaps."""
    reached = 0
    for name, place in sorted(places.items(), key=lambda item: (item[1].start, item[1].end)):
        if place.start != reached:
            raise HeaderError(f"{name!r:.200} does not begin where the previous tensor ends")
        reached = place.end
    if reached != size:
        raise HeaderError(f"its tensors take {reached} bytes, but the file has {size} for them")


def sort_metadata(file: Path) -> None:
    """Put a file's metadata in order, which the library writes in another one every time."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(HEADER_AT), "little")
        header = json.loads(opened.read(length))
        if len(header.get(_METADATA, ())) < 2:
            return
        header[_METADATA] = dict(sorted(header[_METADATA].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:
            opened.seek(HEADER_AT)
            opened.write(text.ljust(length))
