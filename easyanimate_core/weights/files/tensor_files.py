"""Reading safetensors (one file, or several with an index, memory-mapped) and GGUF.

Nothing else is read. A pickle (`.bin`, `.ckpt`, `.pt`, `.pth`) can run any code when opened, so it
is refused; `convert` extracts only its tensors.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError, printable
from ...files.safetensors_file import HEADER_AT, HeaderError, SafetensorsFile
from .folder import PICKLE_SUFFIXES, check_index, component_files, refuse_pickles
from .gguf_file import GGUF_SUFFIX, GGUFFile
from .gguf_header import MAGIC
from .scaled import without_side_tensors
from .spellings import plain_name
from .whole import check_whole

if TYPE_CHECKING:
    from torch import Tensor

#: First bytes of PyTorch's files: a zip archive, or a pickle of protocol 2 to 5.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LONGEST_NAME = 512
_MOST_TENSORS = 100_000


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's location and type, without its values.

    `dtype` is spelled as in the file: BF16, F8_E4M3, or GGUF's Q8_0. `stored` is its name there.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    stored: str

    @property
    def numel(self) -> int:
        """Number of values."""
        return prod(self.shape)


class TensorFiles(Mapping[str, TensorInfo]):
    """The tensors of one component by name, as listed in the headers of its files.

    `opened` are the files except pickles; `left_out` names the entries of pickles that are not
    tensors.
    """

    def __init__(
        self,
        path: Path,
        infos: Mapping[str, TensorInfo],
        metadata: Mapping[str, str],
        opened: Mapping[Path, Any],
        *,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.left_out = left_out
        self._infos = infos
        self._opened = opened

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    @property
    def weights(self) -> Mapping[str, TensorInfo]:
        """The tensors that a network has parameters for: all except scales and their notes."""
        return without_side_tensors(self._infos)

    @property
    def files(self) -> list[Path]:
        """The files that contain the tensors, sorted and without duplicates."""
        return sorted({info.file for info in self._infos.values()})

    @property
    def num_parameters(self) -> int:
        """Number of values in all weights."""
        return sum(info.numel for info in self.weights.values())

    @property
    def dtypes(self) -> Counter[str]:
        """Number of values per dtype."""
        counts: Counter[str] = Counter()
        for info in self.weights.values():
            counts[info.dtype] += info.numel
        return counts

    def renamed(self, names: Mapping[str, str]) -> TensorFiles:
        """Some of the tensors under other names: `names` maps new names to current ones."""
        infos = {new: self._infos[name] for new, name in names.items()}
        return TensorFiles(self.path, infos, self.metadata, self._opened, left_out=self.left_out)

    def map(self) -> Mapping[str, Tensor]:
        """The tensors themselves, which may be kept; GGUF's blocks are unpacked.

        Tensors of a large file are backed by its memory map and read on use. The process has one
        map per file, freed with the last of its tensors: a conversion must drop each tensor before
        it takes the next.
        """
        return _Tensors(self, self._opened, "get_tensor")

    def read(self) -> Mapping[str, Tensor]:
        """Like `map`, each in its own memory: for short use, or if the file may be replaced."""
        return _Tensors(self, self._opened, "read_tensor")


class _Tensors(Mapping[str, "Tensor"]):
    """Tensors of a component by name, each read from its file on access."""

    def __init__(self, infos: TensorFiles, opened: Mapping[Path, Any], take: str) -> None:
        self._infos, self._opened, self._take = infos, opened, take
        self._pickle: tuple[Path, Any] | None = None

    def __getitem__(self, name: str) -> Tensor:
        info = self._infos[name]
        with _told(info.file):
            opened = self._opened.get(info.file) or self._unpickled(info.file)
            tensor: Tensor = getattr(opened, self._take)(info.stored)
        return tensor

    def _unpickled(self, file: Path) -> Any:
        """One file at a time, because all of it may be in memory."""
        if self._pickle is None or self._pickle[0] != file:
            self._pickle = None
            self._pickle = (file, open_tensors(file, pickles=True))
        return self._pickle[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)


def read_tensor_files(path: Path | str, *, pickles: bool = False) -> TensorFiles:
    """The tensors of a `.safetensors` or `.gguf` file or of a component folder.

    A folder contains one file, shards with a `*.safetensors.index.json`, or numbered shards. Names
    are without trainers' wrappers, and scales have one spelling (see `spellings`).

    Args:
        path: File or folder.
        pickles: Whether to read pickles of plain tensors too, for conversion. Those that cannot be
            mapped are loaded into memory.

    Raises:
        CheckpointError: Nothing is found, a file is damaged, incompletely downloaded or a pickle,
            shards are missing or disagree with their index, or the choice among several files is
            ambiguous.
    """
    path = Path(path)
    files, index = component_files(path, pickles=pickles)
    infos: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    stated: set[str] = set()
    left_out: list[str] = []
    kept: dict[Path, Any] = {}
    for file in files:
        opened = open_tensors(file, pickles=pickles)
        metadata |= opened.metadata() or {}
        if hasattr(opened, "left_out"):
            left_out += opened.left_out
        else:
            kept[file] = opened
        for stored in opened.keys():  # noqa: SIM118
            name = _checked_name(stored, file)
            if name in infos:
                raise CheckpointError(_twice(name, infos[name].file, file, path))
            if len(infos) == _MOST_TENSORS:
                raise CheckpointError(
                    f"{path} has more than {_MOST_TENSORS} tensors. It is damaged, or not a "
                    "network's weights: choose another file."
                )
            stated.add(stored)
            dtype, shape = opened.info(stored)
            infos[name] = TensorInfo(file, dtype, shape, stored)
    if index is not None:
        check_index(index, stated)
    return TensorFiles(path, infos, metadata, kept, left_out=tuple(left_out))


def open_tensors(file: Path, *, pickles: bool = False) -> Any:
    """A file's tensors by name: `keys`, `metadata`, `info`, `get_tensor` and `read_tensor`.

    Raises:
        CheckpointError: It is missing, damaged, incompletely downloaded, or a pickle.
    """
    check_whole(file)
    kind = _kind(file)
    if kind == "pickle":
        if not pickles:
            refuse_pickles(file, [file])
        from .pickles import PickleFile

        return PickleFile(file)
    with _told(file):
        return GGUFFile(file) if kind == "gguf" else SafetensorsFile(file)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Raise problems with a file as `CheckpointError`."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing. Download the checkpoint again.") from None
    except HeaderError as error:
        raise CheckpointError(
            f"{file} is not a valid safetensors file ({error}). It is damaged, or its download was "
            "interrupted: download it again."
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise CheckpointError(_no_memory(file)) from error
        raise CheckpointError(
            f"{file} cannot be read: {error}. Check its permissions and its disk."
        ) from error


def _kind(file: Path) -> str:
    """The kind of a file by its first bytes; if they are inconclusive, by its suffix."""
    suffix = file.suffix.lower()
    named = {GGUF_SUFFIX: "gguf", **dict.fromkeys(PICKLE_SUFFIXES, "pickle")}.get(suffix, "")
    try:
        with file.open("rb") as handle:
            start = handle.read(HEADER_AT + 1)
    except (OSError, ValueError):
        return named
    if start.startswith(_PICKLE_STARTS):
        return "pickle"
    if start.startswith(MAGIC):
        return "gguf"
    return "" if start[HEADER_AT:] == b"{" else named


def _no_memory(file: Path) -> str:
    size = file.stat().st_size / 1e9
    return (
        f"The system does not have the memory to map {file} ({size:.1f} GB). Close other programs; "
        "on Windows, let the system manage the size of the page file, and leave room for it on the "
        "disk."
    )


def _checked_name(stored: str, file: Path) -> str:
    """The plain name; networks and LoRAs have only printable ones."""
    if len(stored) > _LONGEST_NAME or printable(stored) != stored:
        shown = printable(stored[:_LONGEST_NAME])
        raise CheckpointError(
            f"{file} has a tensor named '{shown}', which has control characters or is longer than "
            f"{_LONGEST_NAME}. The file is damaged or malicious: download it again."
        )
    return plain_name(stored)


def _twice(name: str, first: Path, second: Path, path: Path) -> str:
    if first == second:
        return (
            f"{name} is in {first} twice, under two spellings. The file is damaged: download or "
            "convert it again."
        )
    return (
        f"{name} is in both {first.name} and {second.name} of {path}. Remove the file that does "
        "not belong to the checkpoint."
    )
