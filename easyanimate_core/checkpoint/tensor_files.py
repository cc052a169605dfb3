"""Reading safetensors: one file, or several with an index, as memory-mapped tensors; and GGUF.

Only these are read. A pickle (`.bin`, `.ckpt`, `.pt`, `.pth`) can run any code when it is
opened, so it is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import CheckpointError
from .gguf_file import GGUF_SUFFIX, GGUFFile
from .scaled import without_side_tensors

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_USUAL_NAMES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
#: A map is renewed after this many bytes were handed out of it.
_RENEW_BYTES = 256 * 1024 * 1024
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it is, without its values.

    `dtype` is the file's word: BF16, F8_E4M3, or of GGUF Q8_0.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of values."""
        return prod(self.shape)


class TensorFiles(Mapping[str, TensorInfo]):
    """The tensors of one component by name, read from the headers of its files."""

    def __init__(self, path: Path, infos: dict[str, TensorInfo], metadata: dict[str, str]) -> None:
        self.path = path
        self.metadata = metadata
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
        file = self._infos[name].file
        if file != self._file or self._served_bytes > _RENEW_BYTES:
            self._file, self._opened, self._served_bytes = file, _open(file), 0
        tensor: Tensor = self._opened.get_tensor(name)
        self._served_bytes += tensor.nbytes
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)


def read_tensor_files(path: Path) -> TensorFiles:
    """The tensors of a `.safetensors` or `.gguf` file or of a component folder.

    A folder holds one file, or shards with a `*.safetensors.index.json`, or numbered shards.

    Raises:
        CheckpointError: Nothing is there, a file is damaged or a pickle, shards are missing or do
            not agree with their index, or the choice among several files is not clear.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Give a checkpoint folder or file.")
    index = _find_index(path) if path.is_dir() else None
    files = _files_of(path, index)
    infos: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for file in files:
        opened = _open(file)
        metadata |= opened.metadata() or {}
        for name in opened.keys():  # noqa: SIM118
            if name in infos:
                raise CheckpointError(
                    f"{name} is in both {infos[name].file.name} and {file.name} of {path}. "
                    "Remove the file that does not belong to the checkpoint."
                )
            infos[name] = TensorInfo(file, *_dtype_and_shape(opened, name))
    if index is not None:
        _check_index(index, infos)
    return TensorFiles(path, infos, metadata)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or `CheckpointError` naming the file and the fault."""
    remedy = "Download this folder of the checkpoint again."
    return files.read_json(path, dict, error=CheckpointError, remedy=remedy)


def _dtype_and_shape(opened: Any, name: str) -> tuple[str, tuple[int, ...]]:
    if isinstance(opened, GGUFFile):
        return opened.info(name)
    part = opened.get_slice(name)
    return part.get_dtype(), tuple(part.get_shape())


def _open(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    if file.suffix == GGUF_SUFFIX:
        return GGUFFile(file)
    if file.suffix in PICKLE_SUFFIXES:
        raise CheckpointError(_pickle_message(file))
    try:
        return safe_open(file, framework="pt")
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing. Download the checkpoint again.") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({error}). It is damaged or its download was "
            "cut off: download it again."
        ) from error


def _files_of(path: Path, index: dict[str, str] | None) -> list[Path]:
    if path.is_file():
        return [path]
    if index is not None:
        return sorted({path / name for name in index.values()})
    found = sorted(path.glob("*.safetensors"))
    if not found:
        pickles = sorted(file for file in path.iterdir() if file.suffix in PICKLE_SUFFIXES)
        if pickles:
            raise CheckpointError(_pickle_message(pickles[0]))
        raise CheckpointError(f"{path} has no .safetensors file. Download the checkpoint again.")
    if len(found) == 1:
        return found
    usual = [file for file in found if file.name in _USUAL_NAMES]
    if len(usual) == 1:
        return usual
    shards = [_SHARD.search(file.name) for file in found]
    totals = {match.group(2) for match in shards if match}
    if all(shards) and len(totals) == 1:
        if len(found) != int(next(iter(totals))):
            raise CheckpointError(
                f"{path} has {len(found)} of {int(next(iter(totals)))} shards. "
                "Download the missing ones."
            )
        return found
    raise CheckpointError(
        f"{path} has {len(found)} .safetensors files and no index: "
        f"{', '.join(file.name for file in found)}. Keep one, or add the *.safetensors.index.json."
    )


def _find_index(path: Path) -> dict[str, str] | None:
    """Tensor name to file name, from the folder's index."""
    found = sorted(path.glob("*.safetensors.index.json"))
    if not found:
        return None
    # The real text-encoder folders come with an index whose shards may have been merged to one.
    weight_map = read_json(found[0]).get("weight_map")
    is_map = isinstance(weight_map, dict) and all(isinstance(f, str) for f in weight_map.values())
    if not is_map or not weight_map:
        raise CheckpointError(f"{found[0]} has no weight_map. Download it again.")
    present = [name for name in set(weight_map.values()) if (path / name).is_file()]
    if not present and any((path / name).is_file() for name in _USUAL_NAMES):
        return None
    missing = sorted(name for name in set(weight_map.values()) if not (path / name).is_file())
    if missing:
        raise CheckpointError(
            f"{found[0].name} names {', '.join(missing)}, not found in {path}. "
            "Download the missing shards."
        )
    return weight_map


def _check_index(index: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> None:
    absent = sorted(set(index) - set(infos))
    if absent:
        raise CheckpointError(
            f"The index names {len(absent)} tensors that its files do not hold, "
            f"{absent[0]} among them. Download the checkpoint again."
        )


def _pickle_message(file: Path) -> str:
    return (
        f"{file} is a pickle. Opening a pickle can run any code that its author put in, so only "
        "safetensors are read. Download the .safetensors version, or convert the file on a machine "
        "where you trust it."
    )
