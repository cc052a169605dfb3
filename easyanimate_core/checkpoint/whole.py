"""Whether a file is whole: downloads that have not ended, and what came in a file's place."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from ..errors import CheckpointError

#: Endings of the files that programs keep beside, or in place of, one that they are fetching.
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
_POINTER = b"version https://git-lfs.github.com/spec/"
#: A pointer is three short lines.
_POINTER_BYTES = 1024
_PAGE = re.compile(rb"\s*(?:<!doctype html|<html|<\?xml)", re.IGNORECASE)
_START_BYTES = 512
#: Folders above a file in which huggingface_hub may keep what it is fetching.
_DEEPEST = 4


def check_whole(file: Path) -> None:
    """Raise `CheckpointError` where a file's download has not ended, or a text came in its place.

    Beside the file, and beside the one that a link of the Hugging Face cache points to, nothing may
    lie that a program keeps until a download is complete. A file that is not there passes.
    """
    for place in dict.fromkeys((file, file.resolve())):
        _check_download(file, place)
    refuse_pointer(file)
    _refuse_page(file)


def refuse_pointer(file: Path) -> None:
    """Raise `CheckpointError` if a file is git-lfs's note about it, as a clone without it has."""
    start = _start(file, _POINTER_BYTES)
    if not start.startswith(_POINTER):
        return
    size = re.search(rb"^size (\d+)$", start, re.MULTILINE)
    stands = f" of {int(size[1][:20]):,} bytes" if size else ""
    root = next((folder for folder in file.resolve().parents if (folder / ".git").exists()), None)
    remedy = "Download the file itself"
    if root is not None:
        remedy = f'Install git-lfs and run: git -C "{root}" lfs pull - or download the file itself'
    raise CheckpointError(
        f"{file} is git-lfs's pointer to a file{stands}, not the file: it was cloned or packed "
        f"without git-lfs. {remedy} (from its page, by hf download, or for a published checkpoint "
        "by python -m easyanimate_core download)."
    )


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
    """What huggingface_hub calls an unfinished file that is to lie in a folder of the user's."""
    return base64.urlsafe_b64encode(hashlib.sha1(name.encode()).digest()).decode()  # noqa: S324


def _unfinished(file: Path, control: Path, program: str) -> CheckpointError:
    where = f"{control.name} beside it" if control.parent == file.parent else str(control)
    return CheckpointError(
        f"{file} is not completely downloaded: {where} is kept by {program} until it is. Let that "
        f"download end, or download the file again and remove {control.name}."
    )


def _refuse_page(file: Path) -> None:
    if _PAGE.match(_start(file, _START_BYTES)):
        raise CheckpointError(
            f"{file} is a web page, not the file: its page was saved in its place. Use the page's "
            "download button, or the address with /resolve/ in place of /blob/."
        )


def _start(file: Path, num_bytes: int) -> bytes:
    try:
        with file.open("rb") as handle:
            return handle.read(num_bytes)
    except (OSError, ValueError):
        return b""
