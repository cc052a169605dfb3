"""The folder of a dataset: its data files, and the records about them.

Every image and video in the folder tree is data, except in `preparation` (the records and the
report) and `controls` (control videos, named after their clips).
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import InputError, MediaError
from ...files import check_is_text
from ...media import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    NotAPictureError,
    is_animation,
    picture_facts,
    read_facts,
)
from ..data.cache import digest_of_media
from ..data.texts import CAPTION_SUFFIXES

RECORDS = "preparation"
CONTROLS = "controls"
#: Media that is not read, or under another suffix, and that `mimetypes` may not know.
_OTHER_SUFFIXES = (
    ".heic", ".heif", ".jxl", ".jfif", ".apng", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw",
    ".exr", ".hdr", ".wmv", ".mts", ".m2ts", ".3gp", ".ogv",
)  # fmt: skip


@dataclass(frozen=True)
class DataFile:
    """`path` is relative to the dataset's folder; `identity` changes when the file does."""

    path: str
    file: Path
    identity: str
    type: Literal["video", "image"]


def identity_of(file: Path) -> str:
    """A hash of the file's content, so that a moved, copied or touched dataset is still known."""
    return digest_of_media(file)


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


def left_out(folder: Path) -> dict[str, str]:
    """The files that look like pictures or clips but are not data, with the reason and remedy.

    They have a type of such files, or a caption that belongs to no other file.
    """
    files = [f for f in sorted(folder.rglob("*")) if _is_ours(f.relative_to(folder))]
    known = {file.with_suffix("") for file in files if _is_data(file.relative_to(folder))}
    return {
        file.relative_to(folder).as_posix(): _reason(file)
        for file in files
        if not _is_data(file.relative_to(folder))
        and file.is_file()
        and (_is_media(file) or (file.with_suffix("") not in known and _has_caption(file)))
    }


def _is_media(file: Path) -> bool:
    kind = mimetypes.guess_type(file.name)[0] or ""
    return file.suffix.lower() in _OTHER_SUFFIXES or kind.startswith(("image/", "video/"))


def _has_caption(file: Path) -> bool:
    suffixes = [suffix for suffix in CAPTION_SUFFIXES if suffix != file.suffix.lower()]
    is_text = file.suffix.lower() in CAPTION_SUFFIXES
    return not is_text and any(file.with_suffix(suffix).is_file() for suffix in suffixes)


def _reason(file: Path) -> str:
    """Why a file is not data, and what to do about it."""
    try:
        picture_facts(file)
    except NotAPictureError:
        pass
    except MediaError as error:
        return str(error)
    else:
        return f"{file.name} is a picture, but not by its name. Rename it to end in .png or .jpg."
    try:
        read_facts(file)
    except MediaError:
        return (
            f"{file.name} is not a picture or clip in a format that is read here. Save it as PNG, "
            "JPEG or MP4."
        )
    return f"{file.name} is a clip, but not by its name. Rename it to end in .mp4 or .webm."


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES + PICTURE_SUFFIXES and _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether it is neither hidden nor among the records and controls."""
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.parts[0] not in (RECORDS, CONTROLS)
