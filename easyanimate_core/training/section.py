"""What the sections of a run's config have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from ..errors import InputError
from ..files import named_path
from ..files.home import expanded


class Section(BaseModel):
    """A section: unknown keys are refused, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def checked_path(path: Path) -> Path:
    """A valid path, with the home folder in place of `~`; raises `InputError`."""
    return named_path(str(expanded(path)), "It", InputError)


#: A valid path of a file or folder; `~` is the home folder.
HomePath = Annotated[Path, AfterValidator(checked_path)]
