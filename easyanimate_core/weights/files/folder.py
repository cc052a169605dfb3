"""Which files of a component folder contain its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...errors import CheckpointError
from ...files.commands import own_command
from .json_file import read_json

SAFETENSORS_SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_USUAL_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.\w+$")
#: The limit of common file systems.
_LONGEST_NAME = 255


def component_files(path: Path, *, pickles: bool) -> tuple[list[Path], Mapping[str, str] | None]:
    """The files with a component's tensors, and the index (tensor to file) if there is one.

    Args:
        path: A file, or a folder with one file, shards with an index, or numbered shards.
        pickles: Whether pickles are accepted if there are no safetensors.

    Raises:
        CheckpointError: Nothing is found, shards are missing, an index refers to a file in another
            folder, or the choice among several files is ambiguous.
    """
    if is_file(path):
        return [path], None
    try:
        listed = sorted(path.iterdir())
    except (OSError, ValueError):
        raise CheckpointError(
            f"{path} does not exist or cannot be read. Give a checkpoint folder or file."
        ) from None
    for suffixes in ((SAFETENSORS_SUFFIX,), PICKLE_SUFFIXES):
        index = _find_index(path, listed, suffixes)
        if suffixes == PICKLE_SUFFIXES and not pickles:
            break
        if index is not None:
            return sorted({path / name for name in index.values()}), index
        found = [file for file in listed if file.suffix.lower() in suffixes and is_file(file)]
        found = [file for file in found if not file.name.startswith(".")]
        if found:
            return _chosen(path, found), None
    refuse_pickles(path, [file for file in listed if file.suffix.lower() in PICKLE_SUFFIXES])
    raise CheckpointError(f"{path} has no .safetensors file. Download the checkpoint again.")


def is_file(path: Path) -> bool:
    """Whether it is a file; False for an impossible file name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """The same for a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def refuse_pickles(path: Path, files: Sequence[Path]) -> None:
    """Raise `CheckpointError`, with the remedy, if there are `files`, pickles in `path`."""
    if not files:
        return
    target = files[0].with_suffix(SAFETENSORS_SUFFIX)
    if target == path:  # a pickle with a safetensors name
        target = path.with_name(f"{path.stem}-converted{SAFETENSORS_SUFFIX}")
    source = files[0]
    if len(files) > 1:
        source, target = path, path / f"model{SAFETENSORS_SUFFIX}"
    raise CheckpointError(
        f"{files[0]} is a pickle. Opening a pickle can run any code that its author put in, so "
        "only safetensors are read. Download the .safetensors version, or extract the tensors "
        f"without running any code: {own_command('convert', source, target)}"
    )


def check_index(index: Mapping[str, str], names: Iterable[str]) -> None:
    """Raise `CheckpointError` unless the index's tensors are among `names`."""
    absent = sorted(set(index) - set(names))
    if absent:
        raise CheckpointError(
            f"The index lists {len(absent)} tensors that its files lack, such as {absent[0]}. "
            "Download the checkpoint again."
        )


def _chosen(path: Path, found: list[Path]) -> list[Path]:
    if len(found) == 1:
        return found
    usual = [file for file in found if file.stem in _USUAL_STEMS]
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
        f"{path} has {len(found)} {found[0].suffix} files and no index: "
        f"{', '.join(file.name for file in found)}. Keep one, or add the "
        f"*{found[0].suffix}.index.json."
    )


def _find_index(
    path: Path, listed: list[Path], suffixes: tuple[str, ...]
) -> Mapping[str, str] | None:
    """Tensor name to file name, from the folder's index."""
    endings = tuple(f"{suffix}.index.json" for suffix in suffixes)
    found = [file for file in listed if file.name.lower().endswith(endings)]
    if not found:
        return None
    # Published text encoder folders contain an index whose shards may have been merged into one.
    weight_map = read_json(found[0]).get("weight_map")
    is_map = isinstance(weight_map, dict) and all(isinstance(f, str) for f in weight_map.values())
    if not is_map or not weight_map:
        raise CheckpointError(f"{found[0]} has no weight_map. Download it again.")
    names = sorted(set(weight_map.values()))
    for name in names:
        _check_shard_name(found[0], name, suffixes)
    missing = [name for name in names if not is_file(path / name)]
    usual = [path / f"{stem}{suffix}" for stem in _USUAL_STEMS for suffix in suffixes]
    if len(missing) == len(names) and any(map(is_file, usual)):
        return None
    if missing:
        raise CheckpointError(
            f"{found[0].name} lists {', '.join(missing)}, not found in {path}. "
            "Download the missing shards."
        )
    return weight_map


def _check_shard_name(index: Path, name: str, suffixes: tuple[str, ...]) -> None:
    """Raise `CheckpointError` unless a shard's name is a plain file name of this format."""
    plain = not set(name) & set("/\\:\0") and name not in ("", ".", "..")
    if not plain or len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise CheckpointError(
            f"{index} lists the file {name[:100]!r}; a shard must be a plain file name, in the "
            "folder of its index. The index is damaged or malicious: download it again."
        )
    if name.lower().endswith(PICKLE_SUFFIXES) and suffixes != PICKLE_SUFFIXES:
        refuse_pickles(index.parent, [index.parent / name])
    if not name.lower().endswith(suffixes):
        raise CheckpointError(
            f"{index} lists the file {name!r}; its shards must end in {' or '.join(suffixes)}. "
            "Download the checkpoint again."
        )
