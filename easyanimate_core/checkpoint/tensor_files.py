"""Reading safetensors: one file, or several with an index, as memory-mapped tensors; and GGUF.

Only these are read. A pickle (`.bin`, `.ckpt`, `.pt`, `.pth`) can run any code when it is
opened, so it is refused, and `convert` takes the tensors alone out of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, printable
from .folder import PICKLE_SUFFIXES, check_index, component_files, refuse_pickles
from .gguf_file import GGUF_SUFFIX, GGUFFile
from .gguf_header import MAGIC
from .scaled import without_side_tensors
from .spellings import plain_name
from .whole import check_whole

if TYPE_CHECKING:
    from torch import Tensor

#: A map is renewed after this many bytes were handed out of it.
_RENEW_BYTES = 256 * 1024 * 1024
#: How PyTorch's files begin: a zip archive, or a pickle of protocol 2 to 5.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
#: Where the JSON of a safetensors header begins, after its length.
_HEADER_AT = 8
#: The largest published ones have 200 kB.
_MOST_HEADER_BYTES = 32 * 1024 * 1024
_LONGEST_NAME = 512
_MOST_TENSORS = 100_000


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it is, without its values.

    `dtype` is the file's word: BF16, F8_E4M3, or of GGUF Q8_0. `stored` is its name in the file.
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
    """The tensors of one component by name, read from the headers of its files.

    `left_out` names what pickles hold beside tensors.
    """

    def __init__(
        self,
        path: Path,
        infos: Mapping[str, TensorInfo],
        metadata: Mapping[str, str],
        *,
        pickles: bool = False,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.pickles = pickles
        self.left_out = left_out
        self._infos = infos

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    @property
    def weights(self) -> Mapping[str, TensorInfo]:
        """The tensors that a network has parameters for: all but the scales of scaled weights."""
        return without_side_tensors(self._infos)

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors, each once, in name order."""
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
        """Some of the tensors under other names: `names` maps the new ones to these."""
        infos = {new: self._infos[name] for new, name in names.items()}
        return TensorFiles(
            self.path, infos, self.metadata, pickles=self.pickles, left_out=self.left_out
        )

    def map(self) -> MappedTensors:
        """The tensors themselves, backed by the files' memory maps; GGUF's blocks are unpacked."""
        return MappedTensors(self)


class MappedTensors(Mapping[str, "Tensor"]):
    """Tensors of a component by name; one is mapped when it is asked for, and read when it is used.

    A tensor that is kept stays backed by its file. One that is converted and dropped gives its
    pages back: the map is renewed every now and then, so that converting a checkpoint does not
    hold it in memory twice.
    """

    def __init__(self, files: TensorFiles) -> None:
        self._infos = files
        self._file: Path | None = None
        self._opened: Any = None
        self._served_bytes = 0

    def __getitem__(self, name: str) -> Tensor:
        info = self._infos[name]
        # A pickle that is read again is in memory again: what it gives is kept by nobody.
        renew = self._served_bytes > _RENEW_BYTES and not self._infos.pickles
        if info.file != self._file or renew:
            self._opened = None
            self._opened = open_tensors(info.file, pickles=self._infos.pickles)
            self._file, self._served_bytes = info.file, 0
        tensor: Tensor = self._opened.get_tensor(info.stored)
        self._served_bytes += tensor.nbytes
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)


def read_tensor_files(path: Path | str, *, pickles: bool = False) -> TensorFiles:
    """The tensors of a `.safetensors` or `.gguf` file or of a component folder.

    A folder holds one file, or shards with a `*.safetensors.index.json`, or numbered shards. Names
    come without the wrappers of trainers, and those of scales in one spelling (`spellings`).

    Args:
        path: File or folder.
        pickles: Whether pickles of plain tensors are read too, and memory is given for those that
            cannot be mapped: for converting them.

    Raises:
        CheckpointError: Nothing is there, a file is damaged, not completely downloaded or a pickle,
            shards are missing or do not agree with their index, or the choice among several files
            is not clear.
    """
    path = Path(path)
    files, index = component_files(path, pickles=pickles)
    infos: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    stated: set[str] = set()
    left_out: list[str] = []
    has_pickles = False
    for file in files:
        opened = open_tensors(file, pickles=pickles)
        metadata |= opened.metadata() or {}
        if hasattr(opened, "left_out"):
            has_pickles, left_out = True, [*left_out, *opened.left_out]
        for stored in opened.keys():  # noqa: SIM118
            name = _checked_name(stored, file)
            if name in infos:
                raise CheckpointError(_twice(name, infos[name].file, file, path))
            if len(infos) == _MOST_TENSORS:
                raise CheckpointError(
                    f"{path} has more than {_MOST_TENSORS} tensors. It is damaged or not a "
                    "network's: choose another file."
                )
            stated.add(stored)
            infos[name] = TensorInfo(file, *_dtype_and_shape(opened, stored), stored=stored)
    if index is not None:
        check_index(index, stated)
    return TensorFiles(path, infos, metadata, pickles=has_pickles, left_out=tuple(left_out))


def open_tensors(file: Path, *, pickles: bool = False) -> Any:
    """A file's tensors by name: an object with `keys`, `metadata` and `get_tensor`.

    Raises:
        CheckpointError: It is missing, damaged, not completely downloaded, or a pickle.
    """
    check_whole(file)
    kind = _kind(file)
    if kind == "pickle":
        if not pickles:
            refuse_pickles(file, [file])
        from .pickles import PickleFile

        return PickleFile(file)
    try:
        return GGUFFile(file) if kind == "gguf" else _open_safetensors(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing. Download the checkpoint again.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}. Check its permissions and its disk."
        ) from error


def _kind(file: Path) -> str:
    """What a file is by its first bytes; where they tell nothing, by its ending."""
    suffix = file.suffix.lower()
    named = {GGUF_SUFFIX: "gguf", **dict.fromkeys(PICKLE_SUFFIXES, "pickle")}.get(suffix, "")
    try:
        with file.open("rb") as handle:
            start = handle.read(_HEADER_AT + 1)
    except (OSError, ValueError):
        return named
    if start.startswith(_PICKLE_STARTS):
        return "pickle"
    if start.startswith(MAGIC):
        return "gguf"
    return "" if start[_HEADER_AT:] == b"{" else named


def _open_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    size = file.stat().st_size
    with file.open("rb") as handle:
        header = int.from_bytes(handle.read(_HEADER_AT), "little")
    if _MOST_HEADER_BYTES < header <= size:
        raise CheckpointError(
            f"{file} says that its header has {header} bytes; at most {_MOST_HEADER_BYTES} are "
            "read. It is damaged: download it again."
        )
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({error}). It is damaged or its download was "
            "cut off: download it again."
        ) from error


def _dtype_and_shape(opened: Any, name: str) -> tuple[str, tuple[int, ...]]:
    if not hasattr(opened, "get_slice"):
        info: tuple[str, tuple[int, ...]] = opened.info(name)
        return info
    part = opened.get_slice(name)
    return part.get_dtype(), tuple(part.get_shape())


def _checked_name(stored: str, file: Path) -> str:
    """The plain name; no network and no LoRA has one that cannot be shown."""
    if len(stored) > _LONGEST_NAME or printable(stored) != stored:
        shown = printable(stored[:_LONGEST_NAME])
        raise CheckpointError(
            f"{file} has a tensor of the name '{shown}': it has control characters or is longer "
            f"than {_LONGEST_NAME}. The file is damaged or not to be trusted: download it again."
        )
    return plain_name(stored)


def _twice(name: str, first: Path, second: Path, path: Path) -> str:
    if first == second:
        return (
            f"{name} is in {first} twice, in two spellings. The file is damaged: download or "
            "convert it again."
        )
    return (
        f"{name} is in both {first.name} and {second.name} of {path}. Remove the file that does "
        "not belong to the checkpoint."
    )
