"""The errors that the library raises on purpose.

Every message names the value that was found, the rule that it breaks and the remedy. All of them
derive from `EasyAnimateError`, so a caller can tell a refusal from a programming error.
"""

from __future__ import annotations

import unicodedata
from importlib import import_module
from pathlib import Path
from typing import Any

#: A host may import the package under another name: ComfyUI puts the pack's whole path before it.
_HOST = __name__.removesuffix("easyanimate_core.errors")
#: Control characters, direction marks, surrogates, line and paragraph separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Zero-width joiners, which occur in words and emoji.
_JOINERS = "\u200c\u200d"


def printable(text: str, *, keep: str = "") -> str:
    """Escape characters that a terminal or a page would interpret rather than show.

    Text from files passes through here before it is displayed: a tensor's name may contain escape
    sequences for a terminal. Characters in `keep` are left alone.
    """
    return "".join(
        char
        if char in keep or char in _JOINERS or unicodedata.category(char) not in _UNSEEN
        else char.encode("unicode_escape").decode()
        for char in text
    )


def counted(count: int, noun: str) -> str:
    """A number and its noun, in messages: "1 frame", "5 frames"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def there_are(count: int, noun: str) -> str:
    """The same as a clause: "there is 1 frame", "there are 5 frames"."""
    return f"there {'is' if count == 1 else 'are'} {counted(count, noun)}"


class EasyAnimateError(Exception):
    """Base class of all deliberate errors. Its text contains no control characters.

    Hosts show the kind of an error with its module, so that is named as in the package.
    """

    __module__ = __name__.removeprefix(_HOST)
    _imported_as = __name__

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._imported_as = cls.__module__
        cls.__module__ = cls.__module__.removeprefix(_HOST)

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes every kind picklable under any name, because worker processes raise them too."""
        return _restored, (self._imported_as, type(self).__name__, self.args, self.__dict__)

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n")


class InputError(EasyAnimateError, ValueError):
    """A parameter, an image, a mask or a clip breaks a rule of the model."""


class HeadError(InputError):
    """The checkpoint's head cannot do what was asked; the message names the head that can."""


class SchedulerError(InputError):
    """The scheduler is unknown or does not fit the checkpoint's prediction type."""


class CheckpointError(EasyAnimateError):
    """A checkpoint's files are missing, damaged or unsafe, or do not fit the network."""


class DownloadError(EasyAnimateError):
    """A download failed: because of the hub, the network, the disk or the received content."""


class MediaError(EasyAnimateError):
    """An image or a video cannot be read or written."""


class PrecisionError(EasyAnimateError):
    """Values left the range of their dtype, or the device does not support the dtype."""


class HeldError(MediaError):
    """A result was saved as `kept`, because another program holds the file it should replace."""

    def __init__(self, message: str, kept: Path) -> None:
        super().__init__(message)
        self.kept = kept


class ElsewhereError(EasyAnimateError):
    """Another process of the same run has ended before this one, and says why."""


class LeftOutError(EasyAnimateError):
    """The pack published for ComfyUI does not include what was asked for."""


class RecipeError(EasyAnimateError):
    """A recipe file is not valid or does not fit this version."""


def _restored(
    module: str, kind: str, values: tuple[Any, ...], attributes: dict[str, Any]
) -> EasyAnimateError:
    named = getattr(import_module(module), kind)
    error: EasyAnimateError = named.__new__(named, *values)
    error.__dict__.update(attributes)
    return error
