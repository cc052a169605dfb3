"""The folder of a dataset: its data files, and the records about them.

Every image and video in the folder tree is data, except in `preparation` (the records and the
report) and `controls` (control videos, named after their clips).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import InputError
from ...files import check_is_text
from ...media import PICTURE_SUFFIXES, VIDEO_SUFFIXES, is_animation

RECORDS = "preparation"
CONTROLS = "controls"
_SHOWN = 5


@dataclass(frozen=True)
class DataFile:
    """`path` is relative to the dataset's folder; `identity` changes when the file does."""

    path: str
    file: Path
    identity: str
    type: Literal["video", "image"]


def identity_of(file: Path) -> str:
    """The file's size and modification time, which detect changes."""
    facts = file.stat()
    return f"{facts.st_size}-{facts.st_mtime_ns}"


def records_of(folder: Path) -> Path:
    """The folder of a dataset's records."""
    return folder / RECORDS


def find_files(folder: Path) -> list[DataFile]:
    """The data files in the tree of `folder`, sorted by path.

    Raises:
        InputError: The folder does not exist or contains no data.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Pass the folder that contains the clips.")
    found = [
        data_file(file, folder)
        for file in sorted(folder.rglob("*"))
        if _is_data(file.relative_to(folder)) and file.is_file()
    ]
    if not found:
        raise InputError(
            f"{folder} contains no clips or images. Cut long videos into clips with the step "
            f"scenes, or add files: {', '.join(VIDEO_SUFFIXES + PICTURE_SUFFIXES)}."
        )
    return found


def find_videos(source: Path) -> list[tuple[str, Path]]:
    """The videos of a folder, or a single one, as (relative path with slashes, file).

    Raises:
        InputError: There are none.
    """
    if source.is_file():
        check_is_text(source.name)
        return [(source.name, source)]
    if not source.is_dir():
        raise InputError(f"{source} does not exist. Pass a video or a folder of videos.")
    found = [
        (file.relative_to(source).as_posix(), file)
        for file in sorted(source.rglob("*"))
        if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()
    ]
    if not found:
        raise InputError(
            f"{source} contains no videos with a known suffix: {', '.join(VIDEO_SUFFIXES)}."
        )
    for name, _ in found:
        check_is_text(name)
    return found


def data_file(file: Path, folder: Path) -> DataFile:
    """`file` as a data file of `folder`."""
    picture = file.suffix.lower() in PICTURE_SUFFIXES and not is_animation(file)
    path = file.relative_to(folder).as_posix()
    check_is_text(path)
    return DataFile(path, file, identity_of(file), "image" if picture else "video")


def some(paths: list[str]) -> str:
    """The first few of `paths`, for a message."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def _is_data(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    ours = path.parts[0] in (RECORDS, CONTROLS)
    return path.suffix.lower() in VIDEO_SUFFIXES + PICTURE_SUFFIXES and not hidden and not ours
