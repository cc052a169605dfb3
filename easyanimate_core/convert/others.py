"""What a converted checkpoint keeps of its source: every part but the transformer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import CheckpointError
from ..weights.files.whole import check_whole

_LEFT_BEHIND = ("transformer", ".cache", ".git")
#: A file of weights that is as large is linked. A smaller one is copied, so that editing it in one
#: checkpoint leaves the other as it is.
_LARGE_BYTES = 64 * 1024 * 1024
_WEIGHTS = (".safetensors", ".bin")
#: How deep folders may go; links can make a circle of them.
_DEEPEST = 6


def other_files(source: Path) -> tuple[Path, ...]:
    """The files of all parts but the transformer, by their places in the folder.

    Raises:
        CheckpointError: A link leads out of the checkpoint, so that a file of elsewhere would come
            along, or a file is not whole.
    """
    return tuple(_files(source, Path(), _DEEPEST))


def copy_others(source: Path, others: Iterable[Path], target: Path) -> None:
    """Copy `others`; large weights are linked where they can be."""
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
                f"{path} is no ordinary file, leads nowhere, or is nested deeper than parts of a "
                "checkpoint are. Remove it from the checkpoint's folder."
            )


def _check(source: Path, path: Path) -> None:
    check_whole(path)
    real, root = path.resolve(), source.resolve()
    in_cache = real.parent.name == "blobs" and real.parent.parent in root.parents
    is_weights = path.suffix.lower() in _WEIGHTS
    if path.is_symlink() and not (is_weights or in_cache or root in real.parents):
        raise CheckpointError(
            f"{path} is a link to {real}, outside of the checkpoint: it is not copied with it. Put "
            "the file itself in its place, or remove the link."
        )


def _is_large(place: Path, real: Path) -> bool:
    return place.suffix.lower() in _WEIGHTS and real.stat().st_size >= _LARGE_BYTES


def _linked(real: Path, new: Path) -> bool:
    try:
        os.link(real, new)
    except OSError:  # another disk, or one without links
        return False
    return True
