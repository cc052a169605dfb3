"""Resolves user-supplied media paths: `~`, image folders, patterns such as %04d.png."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import MediaError

#: File extensions of images and videos, in lower case.
PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif",
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv",
)  # fmt: skip

_PATTERN = re.compile(r"%(?:0(\d))?d")

#: ISO media brands by format.
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF = {b"avif", b"avis"}


@dataclass(frozen=True)
class Sequence:
    """Images that form a clip, in order; `missing` counts the gaps in a pattern's numbers."""

    pictures: tuple[Path, ...]
    missing: int = 0


def media_path(path: str | os.PathLike[str]) -> Path:
    """Expand `~` in a path.

    Raises:
        MediaError: No file can have this name.
    """
    try:
        expanded = Path(path).expanduser()
        expanded.stat()
    except FileNotFoundError:
        pass
    except RuntimeError as error:  # `~name` of an unknown user
        raise MediaError(f"{path} does not exist: {error}.") from error
    except ValueError as error:  # a null character
        raise MediaError(f"{os.fspath(path)!r} is not a valid file name: {error}.") from error
    except OSError as error:
        raise MediaError(f"{path} cannot be opened: {error.strerror}.") from error
    return expanded


def check_is_file(path: str | os.PathLike[str]) -> Path:
    """`media_path` of a non-empty file; `MediaError` with the reason otherwise."""
    file = media_path(path)
    if file.is_dir():
        raise MediaError(f"{file} is a folder; name a file.")
    if not file.exists():
        raise MediaError(f"{file} does not exist.")
    if not file.is_file():
        raise MediaError(f"{file} is not a file but a device or a pipe; name a file.")
    if not file.stat().st_size:
        raise MediaError(f"{file} is empty: it has no bytes.")
    return file


def find_sequence(path: str | os.PathLike[str]) -> Sequence | None:
    """The images in a folder or matching a pattern such as frames/%04d.png; None for other paths.

    Raises:
        MediaError: There are no images, or the folder also contains videos.
    """
    place = media_path(path)
    if place.is_dir():
        return _of_folder(place)
    if place.exists() or not _PATTERN.search(place.name):
        return None
    before, digits, after = _parts_of(place.name)
    shape = re.compile(re.escape(before) + rf"(\d{{{digits},}})" + re.escape(after))
    found = {}
    if place.parent.is_dir():
        for file in place.parent.iterdir():
            match = shape.fullmatch(file.name)
            if match and file.is_file():
                found[int(match[1])] = file
    if not found:
        raise MediaError(f"{place} does not exist: no file matches this pattern.")
    numbers = sorted(found)
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    return Sequence(tuple(found[number] for number in numbers), missing)


def kind_of(file: Path) -> str:
    """Detect "png", "webp" and "avif", which Pillow reads, by the first bytes; "" for all others.

    Raises:
        MediaError: It is a HEIC image, which is not supported.
    """
    with file.open("rb") as opened:
        head = opened.read(64)
    if head.startswith(b"\x89PNG"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] != b"ftyp":
        return ""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, length, 4))]
    if brands[0] in _HEIC or (brands[0] in (b"mif1", b"msf1") and _HEIC & set(brands)):
        raise MediaError(
            f"{file} is a HEIC picture, which is not supported. Save it as JPEG or PNG, for "
            "example with: heif-convert photo.heic photo.jpg (on a Mac: sips -s format jpeg "
            "photo.heic --out photo.jpg)"
        )
    still = brands[0] in (b"mif1", b"msf1") and _AVIF & set(brands)
    return "avif" if brands[0] in _AVIF or still else ""


def _of_folder(folder: Path) -> Sequence:
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    videos = [file.name for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        raise MediaError(
            f"{folder} is a folder with videos, such as {sorted(videos)[0]}; name one of them, or "
            "a folder of pictures only, which is read as a clip."
        )
    pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise MediaError(f"{folder} is a folder without pictures; name a file.")
    return Sequence(tuple(sorted(pictures, key=_natural)))


def _natural(file: Path) -> list[tuple[int, int, str]]:
    """Orders frame_2 before frame_10."""
    parts = re.split(r"(\d+)", file.name)
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p.lower()) for p in parts]


def _parts_of(name: str) -> tuple[str, int, str]:
    match = _PATTERN.search(name)
    assert match is not None
    return name[: match.start()], int(match[1] or 1), name[match.end() :]
