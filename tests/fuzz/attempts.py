"""One attempt: a changed file is read, and what comes of it is a result, a refusal or a fault."""

import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from easyanimate_core.errors import EasyAnimateError

from .formats import Format

RESULT, REFUSAL, FAULT = "result", "refusal", "fault"


@dataclass(frozen=True)
class Outcome:
    """`kind` is one of the three; `said` is the refusal's or the fault's text."""

    kind: str
    said: str = ""


class Workspace:
    """The folder of a format, made once; every attempt leaves it as it was."""

    def __init__(self, format_: Format, folder: Path) -> None:
        self.format = format_
        self.folder = folder
        folder.mkdir(parents=True)
        format_.make(folder)
        self._valid = {place: (folder / place).read_bytes() for place in format_.places}

    def check(self) -> None:
        """Raise unless the valid files are read."""
        self.format.read(self.folder)

    def attempt(self, seed: int, number: int) -> Outcome:
        """Change a file by the generator of this seed and number, and read it."""
        self.change(seed, number)
        try:
            return _outcome(self.format, self.folder)
        finally:
            for place, content in self._valid.items():
                (self.folder / place).write_bytes(content)

    def change(self, seed: int, number: int) -> None:
        """Put a changed file in its place."""
        random = Random(f"{seed} {self.format.name} {number}")
        place = random.choice(self.format.places)
        changed = self.format.mutation(self._valid[place], random)
        (self.folder / place).write_bytes(changed)


def _outcome(format_: Format, folder: Path) -> Outcome:
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            format_.read(folder)
    except EasyAnimateError as error:
        said = str(error)
        if "\x1b" in said or "\0" in said:
            return Outcome(FAULT, f"control characters in the refusal {said!r}")
        return Outcome(REFUSAL, said)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in place if "easyanimate_core" in frame.filename] or place
        where = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
        return Outcome(FAULT, f"{type(error).__name__} at {where}: {str(error)[:200]}")
    return Outcome(RESULT)
