"""The folder of a dataset: which files are its data, and where the records about them lie.

Every picture and video below the folder is data, except below `preparation` (the records and the
report) and `controls` (control videos, named as the file that they belong to).
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
    """`path` is relative to the dataset's folder; `identity` changes with the file."""

    path: str
    file: Path
    identity: str
    type: Literal["video", "image"]


def identity_of(file: Path) -> str:
    """Size and time of the last change: what tells a file from what it was before."""
    facts = file.stat()
    return f"{facts.st_size}-{facts.st_mtime_ns}"


def records_of(folder: Path) -> Path:
    """Where the records of a dataset lie."""
    return folder / RECORDS


def find_files(folder: Path) -> list[DataFile]:
    """The data below `folder`, sorted by path.

    Raises:
        InputError: There is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder. Name the folder that holds the clips.")
    found = [
        data_file(file, folder)
        for file in sorted(folder.rglob("*"))
        if _is_data(file.relative_to(folder)) and file.is_file()
    ]
    if not found:
        raise InputError(
            f"{folder} holds no clips and no pictures. Make clips of long videos with the step "
            f"scenes, or put them there: {', '.join(VIDEO_SUFFIXES + PICTURE_SUFFIXES)}."
        )
    return found


def find_videos(source: Path) -> list[tuple[str, Path]]:
    """The videos of a folder, or the one that is named, as (relative path with slashes, file).

    Raises:
        InputError: There is none.
    """
    if source.is_file():
        check_is_text(source.name)
        return [(source.name, source)]
    if not source.is_dir():
        raise InputError(f"{source} does not exist. Name a video, or a folder of videos.")
    found = [
        (file.relative_to(source).as_posix(), file)
        for file in sorted(source.rglob("*"))
        if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()
    ]
    if not found:
        raise InputError(
            f"{source} holds no videos. They are known by their names: {', '.join(VIDEO_SUFFIXES)}."
        )
    for name, _ in found:
        check_is_text(name)
    return found


def data_file(file: Path, folder: Path) -> DataFile:
    """`file` as data of `folder`."""
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
