"""The files that a run writes: videos or images, with the recipe embedded and as a sidecar."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from .errors import InputError
from .files import Result, Together, check_is_text, check_results
from .files.kinds import is_mp4, is_png, json_with
from .media import media_path, write_json, write_mp4, write_png
from .recipe import FILE_FIELDS, METADATA_KEY, Recipe
from .recipe_files import without_folders
from .tasks import Task

#: Required free space for a result.
_ROOM_BYTES = 50_000_000


def save_videos(path: Path, frames: Tensor, *, fps: float, recipe: Recipe) -> list[Path]:
    """Write frames [B, F, H, W, 3] as .mp4 (or .png) with embedded recipe, and a .json recipe.

    With several samples, `_0`, `_1`, ... is appended to the name. Earlier results are replaced;
    other files and the recipe's sources never are. Returns the files written.

    Raises:
        HeldError: Another program holds an earlier result; all files are written, this one under
            another name.
    """
    check_output(path, frames.shape[1], recipe.task, samples=len(frames), force=True, held=True)
    content = recipe.to_json()
    text = json.dumps(without_folders(content), ensure_ascii=False)
    metadata = {METADATA_KEY: text}
    written: list[Path] = []
    with Together() as together:
        for target, sample in zip(_targets(path, len(frames)), frames, strict=True):
            if path.suffix.lower() == ".png":
                written.append(together.write(write_png, target, sample[0], metadata=metadata))
            else:
                written.append(
                    together.write(write_mp4, target, sample, fps=fps, metadata=metadata)
                )
        written.append(together.write(write_json, path.with_suffix(".json"), content))
    return written


def check_output(
    path: Path,
    frames: int,
    task: Task,
    *,
    samples: int = 1,
    sources: Sequence[Path | str] = (),
    force: bool = False,
    held: bool = False,
) -> None:
    """Raise unless `path` can hold this many frames and its files can be written.

    Files of the task and `sources` are never overwritten, and with `force` only earlier results
    are. `held` is passed to `check_results`.
    """
    check_suffix(path, frames)
    read: list[Path | str] = list(sources)
    for field in dataclasses.fields(task):
        value = getattr(task, field.name)
        if field.name in FILE_FIELDS:
            values = value.values() if isinstance(value, Mapping) else (value,)
            read += [media_path(v) for v in values if isinstance(v, str | os.PathLike)]
    for source in read:
        check_is_text(source)
    is_picture = path.suffix.lower() == ".png"
    what, is_one = ("PNG picture", is_png) if is_picture else ("MP4 video", is_mp4)
    results = [Result(target, what, is_one) for target in _targets(path, samples)]
    is_recipe = json_with("format", "model", "prompts", "mode")
    results.append(Result(path.with_suffix(".json"), "recipe", is_recipe))
    check_results(results, sources=read, force=force, room=_ROOM_BYTES, held=held)


def _targets(path: Path, samples: int) -> list[Path]:
    if samples == 1:
        return [path]
    return [path.with_stem(f"{path.stem}_{index}") for index in range(samples)]


def check_suffix(path: Path, frames: int) -> None:
    """Raise `InputError` unless the file's format can hold this many frames."""
    if path.suffix.lower() not in (".mp4", ".png"):
        raise InputError(f"The output is {path.name!r}; it must end in .mp4 or .png.")
    if path.suffix.lower() == ".png" and frames != 1:
        raise InputError(f"A .png holds 1 frame, not {frames}. Use .mp4, or --frames 1.")
