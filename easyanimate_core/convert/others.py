"""Copies the parts that a conversion leaves unchanged: all but the transformer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import CheckpointError
from ..weights.files.whole import check_whole

_LEFT_BEHIND = ("transformer", ".cache", ".git")
#: Weight files from this size on are hard-linked. Smaller ones are copied, so that editing one
#: checkpoint does not change the other.
_LARGE_BYTES = 64 * 1024 * 1024
_WEIGHTS = (".safetensors", ".bin")
#: Maximum depth of folders; links can form a cycle.
_DEEPEST = 6


def other_files(source: Path) -> tuple[Path, ...]:
    """The files of all parts but the transformer, relative to the folder.

    Raises:
        CheckpointError: A link leads out of the checkpoint, so that an unrelated file would be
            copied, or a file is incomplete.
    """
    return tuple(_files(source, Path(), _DEEPEST))


def copy_others(source: Path, others: Iterable[Path], target: Path) -> None:
    """Copy `others`; large weights are hard-linked if possible."""
    for place in others:
        real, new = (source / place).resolve(), target / place
        new.parent.mkdir(parents=True, exist_ok=True)
        if not (_is_large(place, real) and _linked(real, new)):
            shutil.copy2(real, new)


def _files(source: Path, folder: Path, deep: int) -> Iterator[Path]:
    for path in sorted((source / folder).iterdir()):
        place = folder / path.name
        if path.name in _LEFT_BEHIND:
            continue
        if path.is_file():
            _check(source, path)
            yield place
        elif path.is_dir() and deep:
            yield from _files(source, place, deep - 1)
        else:
            raise CheckpointError(
                f"{path} is not a regular file, is a broken link, or is nested too deeply for a "
                "checkpoint. Remove it from the checkpoint's folder."
            )


def _check(source: Path, path: Path) -> None:
    check_whole(path)
    real, root = path.resolve(), source.resolve()
    in_cache = real.parent.name == "blobs" and real.parent.parent in root.parents
    is_weights = path.suffix.lower() in _WEIGHTS
    if path.is_symlink() and not (is_weights or in_cache or root in real.parents):
        raise CheckpointError(
            f"{path} is a link to {real}, outside the checkpoint, so it is not copied. Replace the "
            "link with the file itself, or remove it."
        )


def _is_large(place: Path, real: Path) -> bool:
    return place.suffix.lower() in _WEIGHTS and real.stat().st_size >= _LARGE_BYTES


def _linked(real: Path, new: Path) -> bool:
    try:
        os.link(real, new)
    except OSError:  # another disk, or no support for links
        return False
    return True
