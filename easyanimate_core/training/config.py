"""The YAML file of a training run, typed: an unknown key or a wrong value is refused by name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..errors import InputError
from ..files import named_path, short
from ..files.home import expanded
from ..files.yaml_text import read_yaml, yaml_value
from ..models.geometry import check_frames
from ..shapes.scenes.scene import SHAPES, Look


def _path(path: Path) -> Path:
    return named_path(str(expanded(path)), "It", InputError)


#: A path, with `~` as the home folder, that a file can have.
HomePath = Annotated[Path, AfterValidator(_path)]
TaskName = Literal["text_to_video", "inpaint", "control", "camera", "vae"]
#: What of a clip is known to an inpaint denoiser while it learns.
MaskKind = Literal["start", "end", "both", "frames", "region", "all"]
_MASKS: dict[MaskKind, float] = {
    "start": 0.4,
    "both": 0.15,
    "end": 0.05,
    "frames": 0.1,
    "region": 0.3,
}
#: The cache's folder in a run's own, where the config names no other.
CACHE = "cache"
#: What a run can train.
TASK_NAMES: tuple[str, ...] = get_args(TaskName)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraConfig(_Section):
    """Low-rank matrices beside the attention's and the feed-forward's layers."""

    rank: int = Field(64, ge=1, description="Inner size of the two matrices")
    alpha: float = Field(32.0, gt=0, description="The change is scaled by alpha / rank")
    layers: tuple[Literal["attention", "feed_forward"], ...] = Field(
        ("attention", "feed_forward"), min_length=1
    )


class ModelConfig(_Section):
    """Where the networks come from.

    `checkpoint` is a complete folder; `vae`, `text` and `weights` replace parts of it. A new
    network gets the sizes of `network` and fresh weights, or those of `weights` where they fit.
    """

    checkpoint: HomePath | None = Field(None, description="Checkpoint folder to start from")
    vae: HomePath | None = Field(None, description="Folder of a VAE; default CHECKPOINT/vae")
    text: HomePath | None = Field(
        None, description="Folder with text_encoder/ and tokenizer/; default CHECKPOINT"
    )
    weights: HomePath | None = Field(
        None, description="Folder of weights to start a new network from; default none"
    )
    network: dict[str, Any] | None = Field(
        None, description="Sizes of a new network: the fields of its config.json"
    )
    lora: LoraConfig | None = Field(None, description="Train a LoRA; default all weights")

    @model_validator(mode="after")
    def _has_a_start(self) -> ModelConfig:
        if self.checkpoint is None and self.network is None:
            raise ValueError("needs `checkpoint`, or `network` for a new one")
        if self.weights is not None and self.network is None:
            raise ValueError("`weights` fill a new network: give its sizes in `network` too")
        if self.lora is not None and self.network is not None:
            raise ValueError("a LoRA changes trained weights: give `checkpoint`, not `network`")
        return self


class SyntheticConfig(_Section):
    """Clips of the synthetic world, made while training."""

    count: int = Field(ge=1, description="How many clips")
    seed: int = Field(0, ge=0)
    kind: str = Field("mixed", description="Which scenes; see make-clips --help")
    looks: tuple[Look, ...] = Field(
        ("textured",), min_length=1, description="How bodies are drawn, one of them per clip"
    )
    repeat: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="Shape of the main body: how many times as often its scenes are shown"
    )
    height: int = Field(96, ge=16, multiple_of=16)
    width: int = Field(96, ge=16, multiple_of=16)
    frames: int = Field(17, ge=1, description="4n + 1")
    languages: tuple[Literal["en", "zh"], ...] = Field(("en", "zh"), min_length=1)
    control: tuple[Literal["edges", "depth", "trajectory"], ...] = Field(
        ("edges",), min_length=1, description="Control videos, one of them per clip"
    )

    @field_validator("frames")
    @classmethod
    def _length(cls, value: int) -> int:
        check_frames(value)
        return value

    @field_validator("repeat")
    @classmethod
    def _shapes(cls, value: dict[str, int]) -> dict[str, int]:
        if unknown := set(value) - set(SHAPES):
            raise ValueError(f"names {', '.join(sorted(unknown))}; shapes are {', '.join(SHAPES)}")
        return value


class DataConfig(_Section):
    """What is trained on, and in which sizes."""

    manifest: HomePath | None = Field(None, description="JSON list of file_path, text and type")
    root: HomePath | None = Field(
        None, description="What file_path is relative to; default its folder"
    )
    synthetic: SyntheticConfig | None = None
    tokens: tuple[int, ...] = Field(
        (3328, 13312), min_length=1, description="Token lengths of the buckets"
    )
    frames: tuple[int, ...] = Field(
        (1, 9, 21, 49), min_length=1, description="Lengths that clips are cut to"
    )
    fps: float = Field(8.0, gt=0)
    tokens_per_batch: int | None = Field(
        None, description="Tokens of a batch on one device; default: one clip of the longest"
    )
    crop: tuple[int, int, int] | None = Field(
        None, description="VAE: frames, height and width that are cut out at random"
    )
    crop_masks: float = Field(
        0.0, ge=0, le=1, description="VAE: share of the crops that hold a place of the clip's mask"
    )
    clips_per_batch: int = Field(4, ge=1, description="VAE: clips of a batch on one device")
    cache: HomePath | None = Field(
        None, description="Folder for latents and embeddings; default OUTPUT/cache"
    )
    draws: int = Field(
        2, ge=1, description="Inpaint: random masks per clip that are encoded and kept"
    )
    workers: int = Field(0, ge=0, description="Processes that read clips ahead")

    @field_validator("frames")
    @classmethod
    def _lengths(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for frames in value:
            check_frames(frames)
        return value

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.manifest is not None and self.synthetic is not None:
            raise ValueError("takes `manifest` or `synthetic`, not both")
        return self

    @model_validator(mode="after")
    def _crop_of_its_own(self) -> DataConfig:
        if self.crop_masks and self.crop is None:
            raise ValueError(
                f"has crop_masks {self.crop_masks} and no crop to place; give crop or leave it out"
            )
        return self


class ObjectiveConfig(_Section):
    """The denoiser's loss and what is left out at random."""

    timesteps: Literal["uniform", "logit_normal"] = "uniform"
    logit_mean: float = 0.0
    logit_std: float = Field(1.0, gt=0)
    shift: float = Field(
        1.0, gt=0, description="Flow: above 1 moves timesteps towards noise; sampling uses 2.718"
    )
    caption_dropout: float = Field(0.1, ge=0, le=1, description="Share trained without caption")
    empty_captions: tuple[str, ...] = Field(
        ("",), min_length=1, description="What stands in the place of a dropped caption"
    )
    condition_dropout: float = Field(
        0.1, ge=0, le=1, description="Share trained without mask, control or camera"
    )
    reference_dropout: float = Field(0.3, ge=0, le=1, description="Share without reference image")
    noise_mean: float = Field(-3.0, description="Known pixels get noise of exp(N(mean, std))")
    noise_std: float = Field(0.5, ge=0)
    masks: dict[MaskKind, float] = Field(
        default_factory=lambda: dict(_MASKS), description="Kinds of inpaint masks and how often"
    )
    region_share: float = Field(
        0.0, ge=0, lt=1, description="Share of the loss that counts the clips' own masks alone"
    )

    @field_validator("masks")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("the shares must be positive numbers")
        return value


class VAEObjectiveConfig(_Section):
    """The VAE's losses by weight; a weight of 0 leaves a loss out."""

    kl: float = Field(1e-6, ge=0)
    perceptual: float = Field(0.0, ge=0, description="LPIPS; needs `lpips_weights`")
    lpips_weights: HomePath | None = Field(None, description="torchvision's vgg16 state dict")
    adversarial: float = Field(0.0, ge=0, description="3-D patch discriminator")
    adversarial_start: int = Field(0, ge=0, description="Step from which it judges")
    discriminator_channels: int = Field(32, ge=8)
    edges: float = Field(0.0, ge=0, description="Error of differences of neighbouring pixels")
    images: float = Field(0.2, ge=0, le=1, description="Share of batches that are single frames")
    from_pictures: bool = Field(
        False,
        description="`model.weights` were trained on pictures alone: begin with each frame as one",
    )
    decoder_only: bool = Field(False, description="Keep the encoder, and so the latents")
    keep_latents: float = Field(
        0.0,
        ge=0,
        description="Distance of latents from those at the start, outside of the clips' masks: "
        "trained denoisers still fit",
    )

    @model_validator(mode="after")
    def _weights(self) -> VAEObjectiveConfig:
        if self.perceptual > 0 and self.lpips_weights is None:
            raise ValueError("`perceptual` needs `lpips_weights`, a file of vgg16 weights")
        if self.decoder_only and self.keep_latents:
            raise ValueError("`decoder_only` keeps the latents as they are; leave out keep_latents")
        return self


class OptimizerConfig(_Section):
    """How weights are changed."""

    kind: Literal["adamw", "adamw8bit", "muon"] = Field(
        "adamw",
        description="muon: the blocks' matrices by Muon, the rest by adamw; it learns faster",
    )
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0)
    eps: float = Field(1e-8, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: int = Field(100, ge=0, description="Steps of linear warm-up")
    clip: float = Field(1.0, gt=0, description="Greatest norm of the gradient")


class RunConfig(_Section):
    """How long, how exact, and what is kept on the way."""

    steps: int = Field(ge=1, description="Optimiser steps in all")
    accumulate: int = Field(1, ge=1, description="Batches per step")
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    ema: float = Field(0.0, ge=0, lt=1, description="Decay of the averaged weights; 0 is off")
    save_every: int = Field(500, ge=1)
    keep: int = Field(2, ge=1, description="Checkpoints that are kept")
    log_every: int = Field(10, ge=1)
    tensorboard: bool = True
    validate_every: int = Field(0, ge=0, description="Steps between validations; 0 is never")

    @field_validator("precision", mode="before")
    @classmethod
    def _bare_no(cls, value: object) -> object:
        return "no" if value is False else value  # as YAML reads it

    @model_validator(mode="after")
    def _whole_rows(self) -> RunConfig:
        if self.save_every % self.log_every:
            raise ValueError(
                f"save_every is {self.save_every}; it must be a multiple of log_every "
                f"({self.log_every}), so that a run that goes on logs the same means"
            )
        return self


class ValidationConfig(_Section):
    """What is made and measured on the way."""

    clips: int = Field(8, ge=1, description="Held-out clips whose loss is measured")
    seed: int = Field(10_000, ge=0, description="Synthetic clips: their seed")
    manifest: HomePath | None = None
    videos: int = Field(4, ge=0, description="How many are made and saved")
    steps: int = Field(20, ge=1)
    guidance: float = Field(4.0, ge=1)


class TrainConfig(_Section):
    """One training run."""

    task: TaskName
    output: HomePath = Field(description="Folder of the run: checkpoints, curves, the result")
    seed: int = Field(0, ge=0)
    model: ModelConfig
    data: DataConfig
    objective: ObjectiveConfig = ObjectiveConfig()
    vae_objective: VAEObjectiveConfig = VAEObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig
    validation: ValidationConfig = ValidationConfig()

    @property
    def cache(self) -> Path:
        """Where latents, embeddings and what is known of files are kept."""
        return self.data.cache or self.output / CACHE

    @model_validator(mode="after")
    def _fits_the_task(self) -> TrainConfig:
        if self.task == "vae" and self.model.lora is not None:
            raise ValueError("the VAE has no LoRA: leave `model.lora` out")
        if self.task != "vae" and self.data.crop is not None:
            raise ValueError("`data.crop` is the VAE's: sizes come from `data.tokens`")
        if self.run.ema and self.model.lora is not None:
            raise ValueError("a LoRA is trained without averaging: set `run.ema` to 0")
        return self


def read_config(path: Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read a run's YAML file.

    Args:
        path: The file. Its relative paths are relative to the folder the command runs in.
        overrides: Values in place of the file's, such as `run.steps=100`.

    Raises:
        InputError: The file is missing or no YAML, or a key or a value is not allowed; it names
            every fault and the allowed keys.
    """
    if not path.is_file():
        raise InputError(f"There is no config {path}. The folder configs/ has examples.")
    content = read_yaml(path, dict, error=InputError)
    for override in overrides:
        _override(content, override)
    return parse_config(content, str(path))


def parse_config(content: dict[str, Any], name: str = "The config") -> TrainConfig:
    """A run's settings from plain values; `InputError` as `read_config`."""
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(detail)}" for detail in error.errors())
        raise InputError(f"{name} is refused:\n{faults}") from error


def _override(content: dict[str, Any], override: str) -> None:
    key, found, value = override.partition("=")
    if not found:
        raise InputError(f"--set {override!r} has no value; write KEY=VALUE, as run.steps=100.")
    *sections, last = key.split(".")
    for section in sections:
        below = content.setdefault(section, {})
        if not isinstance(below, dict):
            raise InputError(f"--set {override!r}: {section} is a value, not a section.")
        content = below
    content[last] = yaml_value(value, object, f"--set {short(override)}", error=InputError)


def _fault(detail: Any) -> str:
    """One fault: where, what was given, and what is allowed."""
    place = [str(part) for part in detail["loc"]]
    where = ".".join(place) or "the run"
    if detail["type"] == "extra_forbidden":
        allowed = list(_section(place[:-1]).model_fields)
        near = difflib.get_close_matches(place[-1], allowed, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"{where} is unknown.{hint} Allowed: {', '.join(allowed)}."
    if detail["type"] == "missing":
        return f"{where} is missing; it is required."
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if isinstance(detail["input"], dict):
        return f"{where}: {message}."
    return f"{where} is {short(detail['input'])}: {message}."


def _section(place: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = TrainConfig
    for name in place:
        kinds = [section.model_fields[name].annotation]
        kinds += get_args(kinds[0])
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return section
