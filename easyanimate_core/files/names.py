"""Names that people give to files: those that every system can write, and no other."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

from ..errors import InputError
from .elsewhere import parts_of
from .shown import short

#: In UTF-8. File systems allow 255; some 143 (encrypted home folders), of which an ending, a number
#: and the name of an unfinished file take their part.
LONGEST = 120
#: What remains of 255 where a download adds its marks to the name.
_LONGEST_ANYWHERE = 230
_SEPARATORS = set("/\\")
_FORBIDDEN = set(':*?"<>|')
#: Windows knows devices by these names, whatever the ending is.
_DEVICES = {
    "con", "prn", "aux", "nul", "conin$", "conout$", "clock$",
    *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789\u00b9\u00b2\u00b3"),
}  # fmt: skip
#: Control characters, halves of pairs, ends of lines and of paragraphs.
_INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}
#: They turn the direction of what follows: a name would look like another.
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def file_stem(name: str, ending: str, *, what: str) -> str:
    """The name of a file without its `ending`, which may be given or left out.

    Args:
        name: What somebody has typed.
        ending: Of the file that will be written, as `.safetensors`.
        what: The file in a message, as `the LoRA`.

    Raises:
        InputError: Some system cannot write a file of this name, or shows another.
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
    r"""Folders and the beginning of a file's name, with `/` between them, for a host to complete.

    Raises:
        InputError: Some system cannot write a name that begins so.
    """
    parts = parts_of(text)
    for part in parts:
        if part != ".." and (fault := name_fault(part)):
            raise InputError(
                f"filename_prefix is {short(text)}: of {short(part)}, {fault}. Give another, such "
                "as prompt or folder/prompt."
            )
    root = "/" if text.startswith(("/", "\\")) else ""  # a host refuses what leaves its folder
    return root + "/".join(parts)


def name_fault(name: str) -> str | None:
    """Why some system cannot hold a file or a folder of this name; None where all can."""
    fault = _character_fault(name) or _ending_fault(name)
    if fault is None and (size := len(name.encode())) > _LONGEST_ANYWHERE:
        return (
            f"it takes {size} bytes, and not every system can write more than {_LONGEST_ANYWHERE}"
        )
    return fault


def windows_fault(name: str) -> str | None:
    """Why Windows opens no file of this name, but a device, a part of a file or another name."""
    refused = next((c for c in name if c in _FORBIDDEN or c < " "), None)
    return f"Windows allows no {refused!r} in it" if refused else _ending_fault(name)


def check_here(path: PurePath, *, on_windows: bool = os.name == "nt") -> None:
    """Raise `InputError` where Windows would write to a device or beside the name, on Windows.

    It takes NUL.mp4 and writes nowhere, and a:b.mp4 and writes what no folder shows.
    """
    if not on_windows:
        return
    for part in path.parts[1:] if path.anchor else path.parts:
        if part not in (".", "..") and (fault := windows_fault(part)):
            raise InputError(f"{path} cannot be written: of {short(part)}, {fault}. Name another.")


def free_name(stem: str, ending: str, taken: Iterable[str]) -> str:
    """`stem` with its ending, or with a number between, which is none of `taken`.

    Names that differ in upper and lower case alone are one on other systems, and so are those with
    the same letters in other codes.
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
        return f"it holds the invisible character U+{ord(found):04X}"
    if _SEPARATORS & set(stem):
        return "it names a folder"
    refused = sorted(_FORBIDDEN & set(stem))
    return f"Windows allows no {refused[0]} in it" if refused else None


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
