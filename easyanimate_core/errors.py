"""The errors that the library raises on purpose.

Every message names the value that was found, the rule that it breaks and the remedy. All of them
derive from `EasyAnimateError`, so a caller can tell a refusal from a programming error.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

#: Controls, marks that turn the direction of writing, halves of characters, other line ends.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Two that words and emoji are joined with.
_JOINERS = "\u200c\u200d"


def printable(text: str, *, keep: str = "") -> str:
    """The text with what a terminal or a page would obey, and not show, written as escapes.

    What a file says goes through here before it is shown: a tensor's name may hold the colours,
    titles and cursor moves of a terminal. `keep` are characters that stay as they are.
    """
    return "".join(
        char
        if char in keep or char in _JOINERS or unicodedata.category(char) not in _UNSEEN
        else char.encode("unicode_escape").decode()
        for char in text
    )


class EasyAnimateError(Exception):
    """Base class of every deliberate refusal. Its text holds no control characters."""

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class InputError(EasyAnimateError, ValueError):
    """A parameter, an image, a mask or a clip breaks a rule of the model."""


class HeadError(InputError):
    """The checkpoint's head cannot do what was asked; the message names the head that can."""


class SchedulerError(InputError):
    """The scheduler is unknown or does not fit the checkpoint's prediction type."""


class CheckpointError(EasyAnimateError):
    """A checkpoint's files are missing, damaged, unsafe or do not fit the network."""


class DownloadError(EasyAnimateError):
    """Files cannot be fetched: the hub, the network, the disk, or what arrived is to blame."""


class MediaError(EasyAnimateError):
    """A picture or a video cannot be read or written."""


class PrecisionError(EasyAnimateError):
    """A computation left the range of its dtype, or the device cannot compute in it."""


class HeldError(MediaError):
    """A finished result lies under another name, `kept`: another program holds what it replaces."""

    def __init__(self, message: str, kept: Path) -> None:
        super().__init__(message)
        self.kept = kept

    def __reduce__(self) -> tuple[type[HeldError], tuple[str, Path]]:
        """Worker processes raise it too."""
        return type(self), (self.args[0], self.kept)


class RecipeError(EasyAnimateError):
    """A recipe file is not valid or does not fit this version."""
