"""The section `distill` of a run's config: what the student learns of its teacher."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ..settings import DEFAULT_NEGATIVE_PROMPT
from .section import MaskKind, Section


class DistillConfig(Section):
    """The teacher is the model as it begins, sampled in many steps with guidance.

    The student learns to go as far in one step without guidance as the teacher in `teacher_steps`.
    """

    guidance: float = Field(6.0, ge=1, description="The teacher's guidance scale")
    guidance_of: dict[MaskKind, Annotated[float, Field(ge=1)]] = Field(
        {}, description="InP: other scales for clips of which this is known, by kind of mask"
    )
    negative_prompt: str = Field(
        DEFAULT_NEGATIVE_PROMPT, description="What the teacher's guidance leads away from"
    )
    jumps: tuple[int, ...] = Field(
        (4,),
        min_length=1,
        description="Into how many equal steps the student's way is cut, one number drawn for each "
        "clip; a number can be listed several times",
    )
    own: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of clips whose steps begin where the student itself gets to from noise; "
        "the others begin at a noised clip",
    )
    teacher_steps: int = Field(
        5, ge=1, description="Steps of the teacher for each of the student's"
    )

    @model_validator(mode="after")
    def _counts(self) -> DistillConfig:
        if min(self.jumps) < 1:
            raise ValueError(f"jumps has {min(self.jumps)}; every number must be at least 1")
        if self.teacher_steps == 1 and self.guidance == 1 and set(self.guidance_of.values()) <= {1}:
            raise ValueError(
                "the teacher takes the same step without guidance: there is nothing to learn; "
                "raise `teacher_steps` or `guidance`"
            )
        return self
