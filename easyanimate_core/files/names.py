"""Names that people give to files: those that every system can write, and no other."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from ..errors import InputError
from .shown import short

#: In UTF-8. File systems allow 255; some 143 (encrypted home folders), of which an ending, a number
#: and the name of an unfinished file take their part.
LONGEST = 120
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
    found = next((character for character in stem if _is_invisible(character)), None)
    if found is not None:
        return f"it holds the invisible character U+{ord(found):04X}"
    if _SEPARATORS & set(stem):
        return "it names a folder"
    refused = sorted(_FORBIDDEN & set(stem))
    if refused:
        return f"Windows allows no {refused[0]} in it"
    if stem != stem.strip():
        return "it begins or ends with a space"
    if stem.startswith("."):
        return "files whose names begin with a dot are hidden"
    if stem.endswith("."):
        return "Windows drops a dot at its end"
    if stem.partition(".")[0].rstrip().casefold() in _DEVICES:
        return "it is the name of a device on Windows"
    size = len(stem.encode())
    if size > LONGEST:
        return f"it takes {size} bytes, and not every system can write more than {LONGEST}"
    return None


def _is_invisible(character: str) -> bool:
    return character in _TURNING or unicodedata.category(character) in _INVISIBLE


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
