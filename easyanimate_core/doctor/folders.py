"""The folders of models and results: whether they can be used, and the space of their disks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files import cache_folder
from ..files.commands import own_command
from ..hub.places import CHECKPOINTS, DETECTORS, LORAS, Places
from .finding import Finding, fine, note, wrong

#: Free bytes of a disk below which a result may not fit.
_FEW_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Folders:
    """Folders of the models by ComfyUI's keys, those written to by what for, and a problem."""

    models: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    written: Mapping[str, Path] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def of(cls, places: Places, more: Sequence[Path] = ()) -> Folders:
        """The folders of a ComfyUI that is not running; `more` hold checkpoints."""
        keys = (CHECKPOINTS, LORAS, DETECTORS)
        models: dict[str, Sequence[Path]] = {key: places.folders(key) for key in keys}
        models[CHECKPOINTS] = [*more, *models[CHECKPOINTS]]
        written = {}
        if places.base is not None:
            written = {name: places.base / name for name in ("output", "temp")}
        return cls(models, written, places.problem)


def findings(folders: Folders) -> Iterator[Finding]:
    """Every folder."""
    if folders.problem:
        yield wrong(f"extra_model_paths.yaml: {folders.problem} Its folders are not used.")
    if not any(folders.models.values()):
        yield note(
            "This copy of the pack is not in the custom_nodes folder of a ComfyUI, whose folders "
            "are therefore unknown.",
            f"Name folders with checkpoints: {own_command('doctor', '--models', 'DIR')}",
        )
    for key, paths in folders.models.items():
        for path in paths:
            yield _readable(key, path)
    for name, path in {**folders.written, "cache": cache_folder("")}.items():
        yield _writable(name, path)


def _readable(key: str, path: Path) -> Finding:
    what = f"models, {key}: {path}"
    try:
        there = path.is_dir()
        if there:
            next(path.iterdir(), None)
    except (OSError, ValueError) as error:
        return wrong(f"{what} cannot be read: {_why(error)}", "Correct its permissions or path.")
    return fine(f"{what}, {_free(path)}") if there else note(f"{what} does not exist")


def _writable(name: str, path: Path) -> Finding:
    what = f"{name}: {path}"
    there = next((folder for folder in (path, *path.parents) if folder.is_dir()), path)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except (OSError, ValueError) as error:
        remedy = "Correct its permissions, or choose another folder"
        variable = " with the environment variable EASYANIMATE_CACHE" if name == "cache" else ""
        return wrong(f"{what} cannot be written: {_why(error)}", f"{remedy}{variable}.")
    if free < _FEW_BYTES:
        return note(f"{what}, only {_free(there)}", "Free some space before a long run.")
    return fine(f"{what}, {_free(there)}")


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path).free / 1e9:.1f} GB free"
    except OSError as error:
        return f"free space unknown ({_why(error)})"


def _why(error: OSError | ValueError) -> str:
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
