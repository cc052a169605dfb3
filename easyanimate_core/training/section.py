"""What the sections of a run's config have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from ..errors import InputError
from ..files import named_path
from ..files.home import expanded

#: Which part of a clip is known when an inpaint denoiser is trained.
MaskKind = Literal["start", "end", "both", "frames", "region", "all"]


class Section(BaseModel):
    """A section: unknown keys are refused, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def checked_path(path: Path) -> Path:
    """A valid path, with the home folder in place of `~`; raises `InputError`."""
    return named_path(str(expanded(path)), "It", InputError)


#: A valid path of a file or folder; `~` is the home folder.
HomePath = Annotated[Path, AfterValidator(checked_path)]
