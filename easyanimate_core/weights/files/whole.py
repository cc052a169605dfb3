"""Whether a file is complete: unfinished downloads, and what is there instead of the file."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from ...errors import CheckpointError
from ...files.stand_ins import START_BYTES, stand_in

#: Suffixes of the files that programs keep next to, or instead of, a file being downloaded.
_CONTROL_SUFFIXES = {
    ".aria2": "aria2",
    ".aria2__temp": "aria2",
    ".part": "a browser or download program",
    ".partial": "a browser or download program",
    ".incomplete": "huggingface_hub",
    ".crdownload": "Chrome",
    ".opdownload": "Opera",
    ".download": "Safari",
    ".downloading": "a download program",
    ".tmp": "a download program",
    ".temp": "a download program",
    ".filepart": "WinSCP",
    ".st": "axel",
    ".lftp-pget-status": "lftp",
    ".!ut": "uTorrent",
    ".!qb": "qBittorrent",
    ".bc!": "BitComet",
    ".xltd": "Thunder",
    ".td": "Thunder",
    ".fdmdownload": "Free Download Manager",
}
#: How many folders up huggingface_hub may keep its unfinished downloads.
_DEEPEST = 4


def check_whole(file: Path) -> None:
    """Raise `CheckpointError` if a file's download is unfinished, or a text is in its place.

    Neither the file's folder, nor that of the file that a link in the Hugging Face cache points to,
    may contain what a program keeps for the file until a download is complete. A missing file
    passes.
    """
    for place in dict.fromkeys((file, file.resolve())):
        _check_download(file, place)
    refuse_stand_in(file)


def refuse_stand_in(file: Path) -> None:
    """Raise `CheckpointError` if a git-lfs pointer or a web page is in a file's place."""
    other = stand_in(_start(file), file)
    if other:
        raise CheckpointError(f"{file} {other.what}. {other.remedy}")


def _check_download(file: Path, place: Path) -> None:
    name = place.name.lower()
    for entry in _entries(place.parent):
        suffix = entry.lower().removeprefix(name)
        if suffix in _CONTROL_SUFFIXES and entry.lower() != suffix:
            raise _unfinished(file, place.parent / entry, _CONTROL_SUFFIXES[suffix])
    for depth, folder in enumerate(list(place.parents)[:_DEEPEST]):
        inside = Path(*place.parts[len(place.parts) - 1 - depth : -1])
        fetched = folder / ".cache" / "huggingface" / "download" / inside
        starts = (f"{place.name}.", f"{_short_hash(f'{place.name}.metadata')}.")
        for entry in _entries(fetched):
            if entry.startswith(starts) and entry.endswith(".incomplete"):
                raise _unfinished(file, fetched / entry, "huggingface_hub")


def _entries(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except (OSError, ValueError):
        return []


def _short_hash(name: str) -> str:
    """huggingface_hub's name for an unfinished download to a local folder."""
    return base64.urlsafe_b64encode(hashlib.sha1(name.encode()).digest()).decode()  # noqa: S324


def _unfinished(file: Path, control: Path, program: str) -> CheckpointError:
    where = f"{control.name} next to it" if control.parent == file.parent else str(control)
    return CheckpointError(
        f"{file} is not completely downloaded: {program} keeps {where} until it is. Let that "
        f"download finish, or download the file again and remove {control.name}."
    )


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as handle:
            return handle.read(START_BYTES)
    except (OSError, ValueError):
        return b""
