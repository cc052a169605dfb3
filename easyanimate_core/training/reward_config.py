"""The section `reward` of a run's config: what is sampled, scored and learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ..models.geometry import (
    SIZE_MULTIPLE,
    TEMPORAL_FACTOR,
    check_frames,
    latent_frames,
    num_tokens,
    pixel_frames,
)
from ..scores import KINDS, Sources
from .section import HomePath, Section

#: Which of the last steps gradients flow through.
Choice = Literal["last", "up_to", "anywhere"]


class Reward(Section):
    """One reward. Scores are about 0 to 1; the loss is the distance from `target`."""

    weight: float = Field(1.0, gt=0, description="Factor of its loss")
    target: float = Field(
        1.0, description="The wanted score; a lower one than 1 ends the rise before it is hacked"
    )
    file: HomePath | None = Field(None, description="hps, mps, aesthetics: weights")
    clip: HomePath | None = Field(
        None, description="clip, aesthetics: folder of that CLIP; hps, mps: of its tokenizer"
    )
    reference: HomePath | None = Field(None, description="likeness: a picture")

    def sources(self, frames: int) -> Sources:
        """Where its files are."""
        return Sources(self.file, self.clip, self.reference, frames)


class RewardConfig(Section):
    """What is sampled with the LoRA so far, how it is scored, and what gradients flow through."""

    rewards: dict[str, Reward] = Field(
        min_length=1, description=f"By name: {', '.join(KINDS)}; their losses are added"
    )
    frames: int = Field(49, ge=1, description="Length of what is sampled, 4n + 1")
    height: int = Field(256, ge=SIZE_MULTIPLE, multiple_of=SIZE_MULTIPLE)
    width: int = Field(256, ge=SIZE_MULTIPLE, multiple_of=SIZE_MULTIPLE)
    steps: int = Field(20, ge=1, description="Sampling steps")
    guidance: float = Field(6.0, ge=1)
    backprop: int = Field(1, ge=1, description="k: how many sampling steps gradients flow through")
    choice: Choice = Field(
        "last",
        description="last: the last k steps; up_to: the last 1 to k, drawn for each batch; "
        "anywhere: k steps drawn from all",
    )
    through_inputs: bool = Field(
        True,
        description="Gradients flow through what the denoiser is shown, too, not only through the "
        "solver; false costs less and keeps long chains from growing",
    )
    decoded: int | None = Field(
        1, ge=1, description="Latent frames that are decoded and scored; 1: a single frame"
    )
    random_start: bool = Field(
        False, description="They begin at a latent frame drawn for each batch, not at the first"
    )
    scored: int = Field(
        8, ge=1, description="Frames of those that networks score, evenly spaced at most"
    )
    tie: float = Field(
        1.0,
        ge=0,
        description="Weight of the squared difference from the velocity without the LoRA, at one "
        "step drawn for each batch; 0: no tie",
    )

    @property
    def tokens(self) -> int:
        """Tokens of one clip in the denoiser."""
        return num_tokens(self.frames, self.height, self.width)

    @property
    def latent_frames(self) -> int:
        """Length of what is sampled, in latent frames."""
        return latent_frames(self.frames)

    @property
    def num_decoded(self) -> int:
        """How many latent frames are decoded."""
        return self.latent_frames if self.decoded is None else self.decoded

    @property
    def decoded_frames(self) -> int:
        """The largest number of frames that these decode to: only the first stands for one."""
        if self.random_start:
            return TEMPORAL_FACTOR * self.num_decoded
        return pixel_frames(self.num_decoded)

    @field_validator("frames")
    @classmethod
    def _length(cls, value: int) -> int:
        check_frames(value)
        return value

    @field_validator("rewards")
    @classmethod
    def _known(cls, value: Mapping[str, Reward]) -> Mapping[str, Reward]:
        for name, reward in value.items():
            if name not in KINDS:
                raise ValueError(f"there is no reward {name}; there are {', '.join(KINDS)}")
            needs = KINDS[name].needs
            for field in ("file", "clip", "reference"):
                given = getattr(reward, field) is not None
                if given and field not in needs:
                    raise ValueError(f"{name} reads no {field}: omit it")
                if not given and field in needs:
                    raise ValueError(f"{name} needs {field}: {needs[field]}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> RewardConfig:
        if self.backprop > self.steps:
            raise ValueError(
                f"backprop is {self.backprop}, more than the {self.steps} steps: lower it, or "
                "raise `steps`"
            )
        if self.num_decoded > self.latent_frames:
            raise ValueError(
                f"decoded is {self.decoded}, but {self.frames} frames have {self.latent_frames} "
                "latent ones: lower it, or raise `frames`"
            )
        if self.random_start and self.num_decoded == self.latent_frames:
            raise ValueError("random_start has no choice where all is decoded: lower `decoded`")
        return self
