"""The typed YAML config of a training run; errors name every unknown key and wrong value."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..errors import CheckpointError, InputError
from ..files import short
from ..files.yaml_text import read_yaml, yaml_value
from ..left_out import check_included
from ..models.geometry import check_frames
from ..small_model import NAMES, is_built_in, named_checkpoint
from .distill_config import DistillConfig
from .reward_config import RewardConfig
from .section import HomePath, MaskKind, Section, checked_path


def _spelt(value: object) -> object:
    """The name of a built-in model that YAML without quotes has read as `key: value`."""
    if isinstance(value, dict) and len(value) == 1:
        name = ": ".join(str(part) for part in next(iter(value.items())))
        return name if name in NAMES else value
    return value


def _model_path(path: Path) -> Path:
    try:
        return path if is_built_in(path) else checked_path(path)
    except CheckpointError as error:
        raise ValueError(str(error)) from error


def _folder_of(path: Path | None) -> Path | None:
    """The folder of a model, which for a built-in one is made by the first call."""
    return None if path is None else named_checkpoint(path) or path


#: A valid path, or the name of a built-in model, such as "small (built in): InP".
ModelPath = Annotated[Path, BeforeValidator(_spelt), AfterValidator(_model_path)]
TaskName = Literal["text_to_video", "inpaint", "control", "camera", "vae", "reward", "distill"]
_MASKS: dict[MaskKind, float] = {
    "start": 0.4,
    "both": 0.15,
    "end": 0.05,
    "frames": 0.1,
    "region": 0.3,
}
#: Default cache folder, inside the run's folder.
CACHE = "cache"
#: What a run can train.
TASK_NAMES: tuple[str, ...] = get_args(TaskName)


class LoraConfig(Section):
    """Low-rank matrices added to the attention and feed-forward layers."""

    rank: int = Field(64, ge=1, description="Inner dimension of the two matrices")
    alpha: float = Field(32.0, gt=0, description="The update is scaled by alpha / rank")
    layers: tuple[Literal["attention", "feed_forward"], ...] = Field(
        ("attention", "feed_forward"), min_length=1
    )
    start: HomePath | None = Field(
        None, description="A LoRA of the same rank and layers to go on from; default: a new one"
    )


class ModelConfig(Section):
    """The networks to train or start from.

    `checkpoint` is a complete folder, or a built-in model by its name in lists; `vae`, `text` and
    `weights` replace parts of it. A new network has the sizes in `network`; it starts from those of
    `weights` that fit, else randomly.
    """

    checkpoint: ModelPath | None = Field(None, description="Checkpoint folder to start from")
    vae: ModelPath | None = Field(None, description="Folder of a VAE; default CHECKPOINT/vae")
    text: ModelPath | None = Field(
        None, description="Folder with text_encoder/ and tokenizer/; default CHECKPOINT"
    )
    weights: HomePath | None = Field(
        None, description="Folder of weights that a new network starts from; default none"
    )
    network: dict[str, Any] | None = Field(
        None, description="Sizes of a new network: the fields of its config.json"
    )
    lora: LoraConfig | None = Field(None, description="Train a LoRA; default: train all weights")

    @property
    def checkpoint_folder(self) -> Path | None:
        """The folder of `checkpoint`, which may be the name of a built-in model."""
        return _folder_of(self.checkpoint)

    @property
    def vae_folder(self) -> Path | None:
        """The folder of `vae`; of a built-in model, its part."""
        folder = _folder_of(self.vae)
        return folder if folder in (None, self.vae) else folder / "vae"

    @property
    def text_folder(self) -> Path | None:
        """The folder of `text`."""
        return _folder_of(self.text)

    @model_validator(mode="after")
    def _has_a_start(self) -> ModelConfig:
        if self.checkpoint is None and self.network is None:
            raise ValueError("needs `checkpoint`, or `network` for a new network")
        if self.weights is not None and self.network is None:
            raise ValueError("`weights` initialise a new network: set its sizes in `network` too")
        if self.lora is not None and self.network is not None:
            raise ValueError("a LoRA adapts trained weights: set `checkpoint`, not `network`")
        return self


class SyntheticConfig(Section):
    """Clips of the synthetic world, generated during training."""

    count: int = Field(ge=1, description="How many clips")
    seed: int = Field(0, ge=0)
    kind: str = Field("mixed", description="Kind of scenes; see make-clips --help")
    looks: tuple[str, ...] = Field(
        ("textured",), min_length=1, description="How bodies are drawn; one is chosen per clip"
    )
    repeat: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="How many times each scene is repeated, by the shape of its main body"
    )
    height: int = Field(96, ge=16, multiple_of=16)
    width: int = Field(96, ge=16, multiple_of=16)
    frames: int = Field(17, ge=1, description="4n + 1")
    languages: tuple[Literal["en", "zh"], ...] = Field(("en", "zh"), min_length=1)
    control: tuple[Literal["edges", "depth", "trajectory"], ...] = Field(
        ("edges",), min_length=1, description="Control videos; one is chosen per clip"
    )

    @field_validator("frames")
    @classmethod
    def _length(cls, value: int) -> int:
        check_frames(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _included(cls, values: Any) -> Any:
        check_included("data.synthetic", "shapes")
        return values

    @field_validator("looks")
    @classmethod
    def _looks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from ..shapes.scenes.scene import LOOKS

        if unknown := set(value) - set(LOOKS):
            raise ValueError(f"unknown {', '.join(sorted(unknown))}; looks are {', '.join(LOOKS)}")
        return value

    @field_validator("repeat")
    @classmethod
    def _shapes(cls, value: dict[str, int]) -> dict[str, int]:
        from ..shapes.scenes.scene import SHAPES

        if unknown := set(value) - set(SHAPES):
            raise ValueError(
                f"unknown {', '.join(sorted(unknown))}; shapes are {', '.join(SHAPES)}"
            )
        return value


class DataConfig(Section):
    """The training data and its sizes."""

    manifest: HomePath | None = Field(
        None,
        description="JSON list of file_path, text and type; reward: prompts, also a text file",
    )
    root: HomePath | None = Field(
        None, description="Folder that file_path is relative to; default the manifest's"
    )
    synthetic: SyntheticConfig | None = None
    tokens: tuple[int, ...] = Field(
        (3328, 13312), min_length=1, description="Token lengths of the buckets"
    )
    frames: tuple[int, ...] = Field(
        (1, 9, 21, 49), min_length=1, description="Lengths in frames that clips are cut to"
    )
    fps: float = Field(8.0, gt=0)
    tokens_per_batch: int | None = Field(
        None, description="Tokens per batch on one device; default: one clip of the longest"
    )
    crop: tuple[int, int, int] | None = Field(
        None, description="VAE: frames, height and width of the random crops"
    )
    crop_masks: float = Field(
        0.0, ge=0, le=1, description="VAE: share of the crops that contain part of the clip's mask"
    )
    clips_per_batch: int = Field(4, ge=1, description="VAE: clips per batch on one device")
    cache: HomePath | None = Field(
        None, description="Folder for latents and embeddings; default OUTPUT/cache"
    )
    draws: int = Field(
        2, ge=1, description="Inpaint: random masks that are encoded and cached per clip"
    )
    workers: int = Field(0, ge=0, description="Processes that prefetch clips")

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
                f"has crop_masks {self.crop_masks} but no crop; set crop, or omit crop_masks"
            )
        return self


class ObjectiveConfig(Section):
    """The denoiser's loss and its random dropouts."""

    timesteps: Literal["uniform", "logit_normal"] = "uniform"
    logit_mean: float = 0.0
    logit_std: float = Field(1.0, gt=0)
    shift: float = Field(
        1.0, gt=0, description="Flow: above 1 shifts timesteps towards noise; sampling uses 2.718"
    )
    caption_dropout: float = Field(0.1, ge=0, le=1, description="Share trained without a caption")
    empty_captions: tuple[str, ...] = Field(
        ("",), min_length=1, description="What replaces a dropped caption"
    )
    condition_dropout: float = Field(
        0.1, ge=0, le=1, description="Share trained without mask, control or camera"
    )
    reference_dropout: float = Field(0.3, ge=0, le=1, description="Share without a reference image")
    noise_mean: float = Field(-3.0, description="Known pixels get noise of exp(N(mean, std))")
    noise_std: float = Field(0.5, ge=0)
    masks: dict[MaskKind, float] = Field(
        default_factory=lambda: dict(_MASKS), description="Kinds of inpaint masks and their shares"
    )
    region_share: float = Field(
        0.0, ge=0, lt=1, description="Share of the loss that counts only the clips' own masks"
    )

    @field_validator("masks")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        if not value or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("the shares must be positive numbers")
        return value


class VAEObjectiveConfig(Section):
    """Weights of the VAE's losses; 0 disables a loss."""

    kl: float = Field(1e-6, ge=0)
    perceptual: float = Field(0.0, ge=0, description="LPIPS; needs `lpips_weights`")
    lpips_weights: HomePath | None = Field(None, description="torchvision's vgg16 state dict")
    adversarial: float = Field(0.0, ge=0, description="3-D patch discriminator")
    adversarial_start: int = Field(0, ge=0, description="Step from which it is used")
    discriminator_channels: int = Field(32, ge=8)
    edges: float = Field(0.0, ge=0, description="Error of differences between neighbouring pixels")
    images: float = Field(0.2, ge=0, le=1, description="Share of batches that are single frames")
    from_pictures: bool = Field(
        False,
        description="`model.weights` were trained on images only: start with each frame as one",
    )
    decoder_only: bool = Field(False, description="Freeze the encoder, and with it the latents")
    keep_latents: float = Field(
        0.0,
        ge=0,
        description="Distance of the latents from the initial ones, outside the clips' masks: "
        "keeps trained denoisers usable",
    )

    @model_validator(mode="after")
    def _weights(self) -> VAEObjectiveConfig:
        if self.perceptual > 0 and self.lpips_weights is None:
            raise ValueError("`perceptual` needs `lpips_weights`, a file with vgg16 weights")
        if self.decoder_only and self.keep_latents:
            raise ValueError("`decoder_only` already keeps the latents; omit keep_latents")
        return self


class OptimizerConfig(Section):
    """The optimiser and its learning rate."""

    kind: Literal["adamw", "adamw8bit", "muon"] = Field(
        "adamw",
        description="muon: Muon for the blocks' matrices, adamw for the rest; it learns faster",
    )
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0)
    eps: float = Field(1e-8, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: int = Field(100, ge=0, description="Linear warm-up steps")
    clip: float = Field(1.0, gt=0, description="Maximum gradient norm")


class RunConfig(Section):
    """Length, precision and checkpoints of the run."""

    steps: int = Field(ge=1, description="Total optimiser steps")
    accumulate: int = Field(1, ge=1, description="Batches per step (gradient accumulation)")
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    ema: float = Field(0.0, ge=0, lt=1, description="Decay of the averaged weights; 0 turns it off")
    save_every: int = Field(500, ge=1)
    keep: int = Field(2, ge=1, description="Number of states to keep")
    keep_loras: int | None = Field(
        None, ge=1, description="Number of LoRAs to keep, one per save; default all"
    )
    log_every: int = Field(10, ge=1)
    tensorboard: bool = True
    validate_every: int = Field(0, ge=0, description="Steps between validations; 0 turns them off")

    @field_validator("precision", mode="before")
    @classmethod
    def _bare_no(cls, value: object) -> object:
        return "no" if value is False else value  # YAML parses a bare `no` as False

    @model_validator(mode="after")
    def _whole_rows(self) -> RunConfig:
        if self.save_every % self.log_every:
            raise ValueError(
                f"save_every is {self.save_every}; it must be a multiple of log_every "
                f"({self.log_every}), so that a resumed run logs the same means"
            )
        return self


class ValidationConfig(Section):
    """What is generated and measured during training."""

    clips: int = Field(8, ge=1, description="Held-out clips whose loss is measured")
    seed: int = Field(10_000, ge=0, description="Seed of the synthetic clips")
    manifest: HomePath | None = None
    videos: int = Field(4, ge=0, description="How many videos are generated and saved")
    steps: int = Field(20, ge=1)
    guidance: float = Field(4.0, ge=1)


class SampleConfig(Section):
    """What the denoiser makes of a prompt as it learns, for looking at."""

    every: int = Field(0, ge=0, description="Steps between samples; 0 turns them off")
    prompt: str | None = Field(None, description="What to show; default: the first caption")
    steps: int = Field(20, ge=1)
    guidance: float = Field(4.0, ge=1)
    seed: int = Field(0, ge=0)


class TrainConfig(Section):
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
    sample: SampleConfig = SampleConfig()
    reward: RewardConfig | None = Field(None, description="Of the task reward, which needs it")
    distill: DistillConfig | None = Field(None, description="Of the task distill, which needs it")

    @property
    def cache(self) -> Path:
        """Folder for latents, embeddings and the results of file checks."""
        return self.data.cache or self.output / CACHE

    @model_validator(mode="after")
    def _fits_the_task(self) -> TrainConfig:
        if self.task == "vae" and self.model.lora is not None:
            raise ValueError("the VAE has no LoRA: omit `model.lora`")
        if self.task != "vae" and self.data.crop is not None:
            raise ValueError("`data.crop` is for the VAE only: sizes come from `data.tokens`")
        if self.task == "vae" and self.sample.every:
            raise ValueError("a VAE has no prompt to make a sample of: set `sample.every` to 0")
        if self.run.keep_loras and self.model.lora is None:
            raise ValueError("no LoRA is trained: omit `run.keep_loras`, or set `model.lora`")
        if self.run.ema and self.model.lora is not None:
            raise ValueError("a LoRA is trained without weight averaging: set `run.ema` to 0")
        self._check_reward()
        self._check_distill()
        return self

    def _check_reward(self) -> None:
        if (self.task == "reward") != (self.reward is not None):
            raise ValueError("the task reward and the section `reward` belong together: set both")
        if self.task != "reward":
            return
        if self.model.lora is None:
            raise ValueError("rewards train a LoRA: set `model.lora`")
        own = ObjectiveConfig(empty_captions=self.objective.empty_captions)
        if self.objective != own:
            raise ValueError("rewards are the objective: of `objective`, set only empty_captions")
        sizes = DataConfig.model_fields
        if any(getattr(self.data, key) != sizes[key].default for key in ("tokens", "frames")):
            raise ValueError("the size of what is sampled is in `reward`: omit data.tokens, frames")

    def _check_distill(self) -> None:
        if (self.task == "distill") != (self.distill is not None):
            raise ValueError("the task distill and the section `distill` belong together: set both")
        if self.task == "distill" and self.model.checkpoint is None:
            raise ValueError("the teacher is a trained model: set `model.checkpoint`")


def read_config(path: Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read a run's YAML file.

    Args:
        path: The file. Relative paths in it are resolved against the current working directory.
        overrides: Values that override the file's, such as `run.steps=100`.

    Raises:
        InputError: The file is missing or not valid YAML, or a key or a value is not allowed; the
            message names every fault and the allowed keys.
    """
    if not path.is_file():
        raise InputError(f"There is no config {path}. The folder configs/ has examples.")
    content = read_yaml(path, dict, error=InputError)
    for override in overrides:
        _override(content, override)
    return parse_config(content, str(path))


def parse_config(content: dict[str, Any], name: str = "The config") -> TrainConfig:
    """A run's settings from plain values; raises `InputError` like `read_config`."""
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(detail)}" for detail in error.errors())
        raise InputError(f"{name} is invalid:\n{faults}") from error


def _override(content: dict[str, Any], override: str) -> None:
    key, found, value = override.partition("=")
    if not found:
        raise InputError(
            f"--set {override!r} has no value; write KEY=VALUE, such as run.steps=100."
        )
    *sections, last = key.split(".")
    for section in sections:
        below = content.setdefault(section, {})
        if not isinstance(below, dict):
            raise InputError(f"--set {override!r}: {section} is a value, not a section.")
        content = below
    content[last] = yaml_value(value, object, f"--set {short(override)}", error=InputError)


def _fault(detail: Any) -> str:
    """Describe one fault: where it is, the given value, and what is allowed."""
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
        if name not in section.model_fields:
            continue  # a key of a table of sections
        kinds = [section.model_fields[name].annotation]
        kinds += get_args(kinds[0])
        section = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return section
