"""The models that the page offers: the small built-in one and checkpoint folders."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from ..files import is_folder
from ..files.commands import own_command
from ..hub.places import checkpoints_in, is_checkpoint
from ..recipe_files import built_in_model
from ..sampling import SCHEDULERS
from ..small_model import installed_names, list_name, named_checkpoint
from ..tasks import TASKS
from ..weights.files import CheckpointInfo, inspect_checkpoint


@dataclass(frozen=True)
class Abilities:
    """What a model can do: modes, schedulers, and whether it takes a reference image."""

    modes: tuple[str, ...]
    schedulers: tuple[str, ...]
    reference: bool
    text: str


class Checkpoints:
    """Checkpoints by name, in `folders`: checkpoint folders, or folders that contain some."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def names(self) -> list[str]:
        """What can be chosen now, the built-in model last."""
        return [*self._found(), *installed_names()]

    def folder(self, name: str) -> Path:
        """The checkpoint folder of a name."""
        built_in = named_checkpoint(name)
        if built_in is not None:
            return built_in
        found = self._found()
        if name not in found:
            places = ", ".join(map(str, self._folders)) or "no folder"
            raise CheckpointError(
                f"There is no model {name!r}; there are {', '.join(self.names()) or 'none'}. "
                f"Models are found in {places}. Show those that can be downloaded with: "
                f"{own_command('download', '--list')}"
            )
        return found[name]

    def info(self, name: str) -> CheckpointInfo:
        """What is in the checkpoint."""
        folder = self.folder(name)
        return _inspected(folder, (folder / "transformer").stat().st_mtime_ns)

    def abilities(self, name: str) -> Abilities:
        """What the model can do."""
        info = self.info(name)
        return Abilities(
            tuple(mode for mode, task in TASKS.items() if info.head in task.heads),
            tuple(n for n, kind in SCHEDULERS.items() if kind == info.version.prediction_type),
            info.transformer.has_reference,
            f"EasyAnimate {info.version.value}, {info.size}, {info.head.value}",
        )

    def name_of(self, path: str) -> str | None:
        """The name of a recipe's checkpoint; None if it is not offered."""
        model = built_in_model(path)
        if model is not None:
            return list_name(*model)
        return next((name for name, folder in self._found().items() if str(folder) == path), None)

    def _found(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in filter(is_folder, self._folders):
            inside = {folder.name: folder} if is_checkpoint(folder) else checkpoints_in(folder)
            for name, path in sorted(inside.items()):
                found.setdefault(name, path.absolute())
        return found


@functools.lru_cache(maxsize=64)
def _inspected(folder: Path, changed: int) -> CheckpointInfo:
    del changed
    return inspect_checkpoint(folder)
