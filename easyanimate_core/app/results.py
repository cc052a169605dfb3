"""The output folder: finished videos with their recipes, and the sources that these name."""

from __future__ import annotations

import functools
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EasyAnimateError, InputError
from ..files import atomic_file, sha256_of, short
from ..files.leftovers import is_unfinished
from ..media import read_still, stream_frames, to_bytes
from ..recipe import Recipe
from ..recipe_files import files_of

#: Folder of the sources in the output folder.
_SOURCES = "sources"
_RESULTS = (".mp4", ".png")
_SHOWN = 60


@dataclass(frozen=True)
class Result:
    """A finished video or image, its recipe's JSON, and its first frame, uint8 [H, W, 3]."""

    file: Path
    recipe: Mapping[str, Any]
    first: np.ndarray[Any, Any]

    @property
    def prompt(self) -> str:
        """What it shows."""
        return " ".join(map(str, self.recipe.get("prompts", [])))


class Results:
    """The results in a folder, which is created."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.sources = self.folder / _SOURCES
        try:
            self.sources.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The output folder {folder} cannot be made: {error.strerror}. Name another with "
                "--output."
            ) from error

    def new(self, frames: int) -> Path:
        """A free path for a result of this length."""
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        return self.folder / f"{stamp}{'.png' if frames == 1 else '.mp4'}"

    def keep(self, source: Path) -> Path:
        """A copy of an uploaded source, named by its content; it stays for the recipe."""
        kept = self.sources / f"{sha256_of(source)[:16]}{source.suffix.lower()}"
        if not kept.is_file():
            with atomic_file(kept) as unfinished:
                shutil.copyfile(source, unfinished)
        return kept

    def new_source(self) -> Path:
        """A free path for a source that the page makes: a control video."""
        return self.sources / f"control-{secrets.token_hex(8)}.mp4"

    def newest(self) -> list[Result]:
        """The newest results that have a recipe, at most 60; damaged and foreign files are not."""
        found = [
            (_changed(file), file)
            for file in self.folder.iterdir()
            if file.suffix.lower() in _RESULTS and not is_unfinished(file.name)
        ]
        read = (_read(file, changed) for changed, file in sorted(found, reverse=True)[:_SHOWN])
        return [result for result in read if result is not None]

    def read(self, name: str) -> Result:
        """A result by its file name; `InputError` if it is gone."""
        file = self.folder / Path(name).name
        result = _read(file, _changed(file))
        if result is None:
            raise InputError(f"{short(name)} is no longer in {self.folder}.")
        return result

    def own_sources(self, recipe: Mapping[str, Any]) -> dict[str, Path]:
        """The recipe's sources that lie in this folder; the recipe may name any file."""
        kept = {}
        for file in files_of(recipe):
            for path in file.candidates([self.sources]):
                if path.parent == self.sources and sha256_of(path) == file.sha256:
                    kept[file.part] = path
        return kept


def _changed(file: Path) -> int:
    """When a file was changed; 0 if it was removed in the meantime."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=4 * _SHOWN)
def _read(file: Path, changed: int) -> Result | None:
    """A result with its recipe; None if the file has none or cannot be read."""
    del changed
    try:
        recipe = Recipe.read_value(file)
        if file.suffix.lower() == ".png":
            return Result(file, recipe, to_bytes(read_still(file).frames[0]))
        return Result(file, recipe, next(iter(stream_frames(file, threads=1))).pixels())
    except (EasyAnimateError, OSError, StopIteration):
        return None
