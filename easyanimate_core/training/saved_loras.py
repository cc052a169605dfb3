"""The LoRA after every save of a run, ready to be used, beside the states."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..errors import HeldError, MediaError
from ..files import remove

#: Folder of the LoRAs, inside the run's folder.
LORAS = "loras"
_NAME = re.compile(r"lora-(\d{8})\.safetensors")


class SavedLoras:
    """The LoRAs of a run in `folder`; the newest `keep` of them are kept, or all."""

    def __init__(self, folder: Path, keep: int | None) -> None:
        self._folder = folder
        self._keep = keep

    def path(self, step: int) -> Path:
        """The LoRA after `step` steps."""
        return self._folder / f"lora-{step:08d}.safetensors"

    def save(self, step: int, write: Callable[[Path], None]) -> tuple[Path, list[str]]:
        """Let `write` write one and remove old ones; returns the file and notes for the user.

        Raises:
            MediaError: The disk is full or not writable.
        """
        path, notes = self.path(step), []
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            write(path)
        except HeldError as error:
            path = error.kept
            notes.append(str(error))
        except MediaError as error:
            raise MediaError(
                f"{error} The state after step {step} is written: once that is fixed, start it "
                "again, and it resumes there."
            ) from error
        for old in self._old():
            notes += _removed(old)
        return path, notes

    def _old(self) -> list[Path]:
        found = sorted(p for p in self._folder.iterdir() if _NAME.fullmatch(p.name))
        return found[: -self._keep] if self._keep else []


def _removed(lora: Path) -> list[str]:
    try:
        remove(lora)
    except OSError as error:
        return [f"The old LoRA {lora} cannot be removed ({error.strerror or error})."]
    return []
