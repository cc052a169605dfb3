"""The manifest for training: files with their texts, in the original's format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...files import Result, check_results
from ...files.kinds import json_list_of
from ...media import write_json
from ...progress import Progress, silent
from ..data.kohya import MOST_REPEATS, numbered_folder, repeats_of
from ..data.texts import some
from .captions import captions_of, edited_captions
from .files import CONTROLS, DataFile, find_files
from .filters import Measurements, measure_files
from .results import remaining


@dataclass(frozen=True)
class ManifestSummary:
    """What was written.

    `notes` tell which folders are repeated, and which captions were edited since they were read.
    """

    file: Path
    videos: int
    pictures: int
    controls: int
    notes: Sequence[str] = ()


def write_manifest(
    folder: Path,
    target: Path,
    *,
    force: bool = True,
    workers: int = 1,
    progress: Progress = silent,
) -> ManifestSummary:
    """Write the files kept by filter and deduplicate as a JSON list.

    An entry has file_path (relative to `folder`, the data root), text, type ("video" or "image"),
    height, width, frames, and for videos fps; in a folder that is named as for kohya's trainers
    (`10_name`) also repeats. If `folder`/controls exists, it must have a file of
    the same path for each, which becomes control_file_path. `force` replaces an earlier manifest,
    but never any other file.

    Raises:
        InputError: A file has no text, cannot be read, or lacks its control video; or no file is
            left.
    """
    if target.suffix.lower() != ".json":
        raise InputError(f"{target} must end in .json.")
    check_results([Result(target, "manifest", json_list_of("file_path"))], force=force)
    files = remaining(folder, find_files(folder))
    if not files:
        raise InputError(f"No file of {folder} was kept. Look at the report and change the limits.")
    texts = captions_of(folder, files)
    without = [data.path for data in files if data.path not in texts]
    if without:
        raise InputError(
            f"{len(without)} of {len(files)} files have no text: {some(without)}. Add texts with "
            "the step caption."
        )
    controls = _controls(folder, files)
    measurements = Measurements(folder)
    measure_files(files, measurements, workers, progress)
    broken = [data.path for data in files if measurements.error(data)]
    if broken:
        raise InputError(
            f"{len(broken)} files cannot be read: {some(broken)}. The step filter drops them. "
            f"{next(filter(None, map(measurements.error, files)))}"
        )
    entries = [
        _entry(d, texts[d.path], measurements.values(d), controls.get(d.path)) for d in files
    ]
    write_json(target, entries)
    videos = sum(data.type == "video" for data in files)
    notes = (*_repeats_told(files), *edited_captions(files, texts))
    return ManifestSummary(target, videos, len(files) - videos, len(controls), notes)


def _repeats_told(files: list[DataFile]) -> Iterator[str]:
    """A note for every folder whose name says how often its files are drawn."""
    named = [found for data in files if (found := numbered_folder(data.path))]
    for folder, number in dict.fromkeys(named):
        if number == 1:
            continue
        if number == repeats_of(f"{folder}/file"):
            yield (
                f"The {named.count((folder, number))} files of {folder} are drawn {number} times "
                "per epoch, as kohya's trainers read this name. Rename the folder to change that."
            )
        else:
            yield (
                f"The files of {folder} are drawn once per epoch: its name says {number} repeats; "
                f"1 to {MOST_REPEATS} are followed."
            )


def _entry(
    data: DataFile, text: str, values: dict[str, float], control: str | None
) -> dict[str, object]:
    entry: dict[str, object] = {"file_path": data.path, "text": text, "type": data.type}
    if control is not None:
        entry["control_file_path"] = control
    if repeats_of(data.path) > 1:
        entry["repeats"] = repeats_of(data.path)
    entry |= {name: int(values[name]) for name in ("height", "width", "frames")}
    if data.type == "video":
        entry["fps"] = values["fps"]
    return entry


def _controls(folder: Path, files: list[DataFile]) -> dict[str, str]:
    if not (folder / CONTROLS).is_dir():
        return {}
    found = {data.path: f"{CONTROLS}/{data.path}" for data in files}
    missing = [path for path in found.values() if not (folder / path).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(files)} files have no control video: {some(missing)} missing. "
            f"Make them with the command preprocess, or move {folder / CONTROLS} elsewhere."
        )
    return found
