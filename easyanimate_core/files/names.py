"""Validation of user-chosen file names: every operating system must be able to write them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

from ..errors import InputError
from .elsewhere import parts_of
from .shown import short

#: Bytes of UTF-8. File systems allow 255, some 143 (encrypted home folders), and the extension, a
#: number and the temporary name need room too.
LONGEST = 120
#: What remains of 255 after the marks that a download adds to the name.
_LONGEST_ANYWHERE = 230
_SEPARATORS = set("/\\")
_FORBIDDEN = set(':*?"<>|')
#: Windows reserves these names for devices, whatever the extension.
_DEVICES = {
    "con", "prn", "aux", "nul", "conin$", "conout$", "clock$",
    *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"),
}  # fmt: skip
#: Control characters, surrogates, line and paragraph separators.
_INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}
#: Direction marks and the byte order mark: with them one name can look like another.
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def file_stem(name: str, ending: str, *, what: str) -> str:
    """A file name without its `ending`, which the user may type or leave out.

    Args:
        name: The name as typed.
        ending: Extension of the file that will be written, such as `.safetensors`.
        what: The file in a message, such as `the LoRA`.

    Raises:
        InputError: Some system cannot write a file with this name, or displays it differently.
    """
    stem = name[: -len(ending)] if name.casefold().endswith(ending) else name
    fault = _fault(stem)
    if fault:
        raise InputError(
            f"The name of {what} is {short(name)}: {fault}. Give a file name without a folder, "
            "such as my_style."
        )
    return stem


def file_prefix(text: str) -> str:
    r"""Folders and a file name prefix, joined by `/`, for a host to complete.

    Raises:
        InputError: Some system cannot write a name with this prefix.
    """
    parts = parts_of(text)
    for part in parts:
        if part != ".." and (fault := name_fault(part)):
            raise InputError(
                f"filename_prefix is {short(text)}; {short(part)} is not a valid name: {fault}. "
                "Choose another, such as prompt or folder/prompt."
            )
    root = "/" if text.startswith(("/", "\\")) else ""  # the host rejects paths outside its folder
    return root + "/".join(parts)


def name_fault(name: str) -> str | None:
    """Why some system cannot store a file or folder with this name; None if all can."""
    fault = _character_fault(name) or _ending_fault(name)
    if fault is None and (size := len(name.encode())) > _LONGEST_ANYWHERE:
        return (
            f"it takes {size} bytes, and not every system can write more than {_LONGEST_ANYWHERE}"
        )
    return fault


def windows_fault(name: str) -> str | None:
    """Why Windows would open something other than a file with this name; None if it would not."""
    refused = next((c for c in name if c in _FORBIDDEN or c < " "), None)
    return f"Windows does not allow {refused!r} in it" if refused else _ending_fault(name)


def check_here(path: PurePath, *, on_windows: bool = os.name == "nt") -> None:
    """On Windows, raise `InputError` for a name that would not become a visible file.

    Windows accepts NUL.mp4 and writes nothing, and a:b.mp4 and writes a hidden stream of a.
    """
    if not on_windows:
        return
    for part in path.parts[1:] if path.anchor else path.parts:
        if part not in (".", "..") and (fault := windows_fault(part)):
            raise InputError(
                f"{path} cannot be written: {short(part)} is not a valid name: {fault}. Choose "
                "another."
            )


def free_name(stem: str, ending: str, taken: Iterable[str]) -> str:
    """`stem` plus `ending`, with a number between them if the name is in `taken`.

    Names that differ only in case or Unicode normalization count as equal, as on some systems.
    """
    known = {_folded(name) for name in taken}
    name, number = f"{stem}{ending}", 1
    while _folded(name) in known:
        number += 1
        name = f"{stem}_{number}{ending}"
    return name


def _fault(stem: str) -> str | None:
    if not stem.strip():
        return "it is empty"
    if fault := _character_fault(stem):
        return fault
    if stem != stem.strip():
        return "it begins or ends with a space"
    if stem.startswith("."):
        return "files whose names begin with a dot are hidden"
    if fault := _ending_fault(stem):
        return fault
    size = len(stem.encode())
    if size > LONGEST:
        return f"it takes {size} bytes, and not every system can write more than {LONGEST}"
    return None


def _character_fault(stem: str) -> str | None:
    found = next((character for character in stem if _is_invisible(character)), None)
    if found is not None:
        return f"it contains the invisible character U+{ord(found):04X}"
    if _SEPARATORS & set(stem):
        return "it contains a folder"
    refused = sorted(_FORBIDDEN & set(stem))
    return f"Windows does not allow {refused[0]} in it" if refused else None


def _ending_fault(stem: str) -> str | None:
    if stem.endswith((".", " ")):
        return f"Windows drops a {'dot' if stem.endswith('.') else 'space'} at its end"
    if stem.partition(".")[0].rstrip().casefold() in _DEVICES:
        return "it is the name of a device on Windows"
    return None


def _is_invisible(character: str) -> bool:
    return character in _TURNING or unicodedata.category(character) in _INVISIBLE


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
