"""Generates clips for held-out scenes with a checkpoint: the inputs of each task, and the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ...conditioning.encode import encode_video, to_model_range
from ...errors import HeadError, InputError
from ...memory.offload import placed
from ...models.precision import wide
from ...models.specs import TransformerConfig
from ...models.vae import AutoencoderKLMagvit
from ...pipeline import Pipeline
from ...progress import Progress, silent
from ...sampling import evaluations, make_schedule, plan_steps
from ...settings import Settings
from ...stages import decode_latents
from ...tasks import (
    Camera,
    Control,
    ImageToVideo,
    RegionEdit,
    Task,
    TextToVideo,
    Trajectory,
    check_head,
)
from ...text import PromptEmbeddings
from ...weights.loading import load_vae
from ...weights.lora import Lora, LoraSet, matrix_shapes
from ..scenes import Scene, camera_of, caption, control_video, make_scene, tracks_of
from .meaning import TASKS, Sample, clip_of, edited_region, recoloured

#: Kind of scenes for each task: edits and tracks need a moving body.
_KINDS = {
    "text": "mixed",
    "start": "mixed",
    "start_end": "mixed",
    "region": "move",
    "control": "mixed",
    "reference": "move",
    "camera": "camera",
    "trajectory": "move",
}

#: Seed of the held-out scenes, different from that of all training clips.
HELD_OUT_SEED = 990_000

# Blur in pixels and noise that make rendered clips as soft as generated ones.
_SOFT_BLUR, _SOFT_NOISE = 1.2, 0.03


@dataclass(frozen=True)
class Ask:
    """A model's input for one clip: the prompt, and the mode with its sources.

    `scene` is the requested scene, `source` the scene of the clip to edit.
    """

    task: str
    scene: Scene
    prompt: str
    source: Scene | None = None

    @property
    def given(self) -> Task:
        """The mode with its sources, rendered anew: only their scenes are kept."""
        return _GIVEN[self.task](self.source or self.scene)


@dataclass(frozen=True)
class Sampling:
    """How clips are sampled.

    Args:
        settings: Size, length and sampling.
        guidance: Task -> guidance scale, for tasks with another one than the settings'.
        loras: LoRAs of every clip.
    """

    settings: Settings
    guidance: Mapping[str, float] = field(default_factory=dict)
    loras: tuple[Lora, ...] = ()

    def of(self, task: str) -> Settings:
        """The settings of a task."""
        scale = self.guidance.get(task, self.settings.guidance_scale)
        return replace(self.settings, guidance_scale=scale)


def ask(task: str, scene: Scene, *, language: str = "en") -> Ask:
    """The model's input for `scene`; `InputError` for an unknown task.

    For "region", `scene` is that of the source clip, and another colour is requested.
    """
    if task not in TASKS:
        raise InputError(f"The task is {task!r}; it must be one of {', '.join(TASKS)}.")
    if task == "region":
        wanted = recoloured(scene)
        return Ask(task, wanted, caption(wanted, language), scene)
    return Ask(task, scene, caption(scene, language))


def _start(scene: Scene) -> Task:
    return ImageToVideo(start=clip_of(scene)[:1])


def _start_end(scene: Scene) -> Task:
    clip = clip_of(scene)
    return ImageToVideo(start=clip[:1], end=clip[-1:])


def _control(scene: Scene) -> Control:
    return Control(torch.from_numpy(control_video(scene, "edges")))


_GIVEN: dict[str, Callable[[Scene], Task]] = {
    "text": lambda scene: TextToVideo(),  # noqa: ARG005
    "start": _start,
    "start_end": _start_end,
    "region": lambda scene: RegionEdit(clip_of(scene), edited_region(scene)),
    "control": _control,
    "reference": lambda scene: replace(_control(scene), reference=clip_of(scene)[:1]),
    "camera": lambda scene: Camera(poses=camera_of(scene)),
    "trajectory": lambda scene: Trajectory(tracks_of(scene)),
}


def asks_for(
    task: str, count: int, settings: Settings, *, seed: int = HELD_OUT_SEED, language: str = "en"
) -> list[Ask]:
    """The first `count` scenes of a held-out list, at the settings' size and length.

    Raises `InputError` if the settings leave either open, or `count` is less than 1.
    """
    height, width, frames = settings.height, settings.width, settings.frames
    if height is None or width is None or frames is None or frames < 2:
        raise InputError(
            f"The settings have the size {height} x {width} and {frames} frames; scenes need a "
            "size and at least 5 frames. Give all three."
        )
    if count < 1 or task not in _KINDS:
        raise InputError(
            f"{count} scenes of the task {task!r} were asked for; at least 1 is needed, of one of "
            f"{', '.join(TASKS)}."
        )
    scenes = (
        make_scene(seed, index, kind=_KINDS[task], height=height, width=width, frames=frames)
        for index in range(count)
    )
    return [ask(task, scene, language=language) for scene in scenes]


def tasks_of(config: TransformerConfig) -> tuple[str, ...]:
    """The tasks that a checkpoint's head supports."""
    scene = make_scene(HELD_OUT_SEED, 0, kind="move", frames=5)
    found = []
    for task in TASKS:
        try:
            check_head(ask(task, scene).given, config)
        except HeadError:
            continue
        found.append(task)
    return tuple(found)


def evaluations_per_clip(
    pipeline: Pipeline, asks: Sequence[Ask], sampling: Sampling
) -> dict[str, int]:
    """How often the denoiser is evaluated for a clip of each task: steps, and prompts per step.

    Raises `InputError` if the checkpoint does not support a task or the sampling.
    """
    info, found = pipeline.info, {}
    last = max(given.scene.index for given in asks)
    replace(sampling.settings, seed=sampling.settings.seed + last)  # validates the seeds of all
    for task, asked in {given.task: given for given in asks}.items():
        settings, given = sampling.of(task), asked.given
        check_head(given, info.transformer)
        name = settings.scheduler_for(info.version, info.scheduler, strength=given.strength)
        schedule = make_schedule(
            name, info.scheduler, steps=settings.steps, strength=given.strength
        )
        guidance = settings.guidance
        plan = plan_steps(len(schedule.timesteps), settings.step_cache, guidance.window)
        found[task] = evaluations(plan, guided=guidance.active)
    return found


def check_loras(pipeline: Pipeline, loras: Sequence[Lora]) -> tuple[str, ...]:
    """Sentences on what LoRAs change; `CheckpointError` if one does not fit the checkpoint."""
    info = pipeline.info
    shapes = matrix_shapes(info.transformer_files.weights)
    return LoraSet.read(loras, shapes, (info.version, info.head)).reports


def make_samples(
    pipeline: Pipeline,
    asks: Sequence[Ask],
    sampling: Settings | Sampling,
    *,
    text: PromptEmbeddings | None = None,
    batch: int = 8,
    progress: Progress = silent,
) -> Iterator[Sample]:
    """Generate a clip for every ask, with the settings' seed plus the number of its scene.

    Args:
        pipeline: The checkpoint.
        asks: Inputs of one or several tasks.
        sampling: The size and length of the scenes, and the sampling.
        text: The encoded prompts of `asks`; None encodes them.
        batch: Batch size for clips from a prompt only.
        progress: Reports the stage "generate".

    Raises:
        CheckpointError: A LoRA does not fit; raised before the denoiser is loaded.
        InputError: As `evaluations_per_clip`, before any weight is loaded.
    """
    if isinstance(sampling, Settings):
        sampling = Sampling(sampling)
    evaluations_per_clip(pipeline, asks, sampling)
    text = text or encode_asks(pipeline, asks, sampling.settings)
    with ExitStack() as stack:
        vae = None
        if any(given.task in _KNOWN_PIXELS for given in asks):
            dtype = None if pipeline.device.type == "cpu" else wide(pipeline.dtype)
            vae = load_vae(pipeline.info, dtype=dtype)
            stack.enter_context(placed(vae, pipeline.device, "module"))
        start = 0
        while start < len(asks):
            progress("generate", start, len(asks))
            end = _end_of_batch(asks, start, batch)
            first = asks[start]
            settings = sampling.of(first.task)
            made = pipeline.generate(
                _rows(text, start, end),
                first.given,
                replace(settings, seed=settings.seed + first.scene.index),
                loras=sampling.loras,
            ).frames
            for given, frames in zip(asks[start:end], made, strict=True):
                shown = None if vae is None else _reconstructed(vae, given, pipeline)
                yield Sample(given.task, given.scene, frames, shown, given.source)
            start = end
        progress("generate", len(asks), len(asks))


def encode_asks(pipeline: Pipeline, asks: Sequence[Ask], settings: Settings) -> PromptEmbeddings:
    """The prompts of asks, encoded once for any number of calls of `make_samples`."""
    return pipeline.encode([given.prompt for given in asks], settings.negative_prompt)


_KNOWN_PIXELS = ("start", "start_end", "region")


def _end_of_batch(asks: Sequence[Ask], start: int, batch: int) -> int:
    """Batch clips from a prompt only, of scenes that follow each other: so do their seeds."""
    end = start + 1
    while end < min(start + batch, len(asks)) and _follows(asks[end], asks[end - 1]):
        end += 1
    return end


def _follows(given: Ask, before: Ask) -> bool:
    scene, last = given.scene, before.scene
    return given.task == before.task == "text" and (scene.seed, scene.index) == (
        last.seed,
        last.index + 1,
    )


def _rows(text: PromptEmbeddings, start: int, end: int) -> PromptEmbeddings:
    rows = slice(start, end)
    return replace(text, positive=text.positive.rows(rows), prompts=text.prompts[rows])


@torch.inference_mode()
def _reconstructed(vae: AutoencoderKLMagvit, given: Ask, pipeline: Pipeline) -> Tensor | None:
    """The VAE's reconstruction of the source clip."""
    if given.task not in _KNOWN_PIXELS:
        return None
    dtype = wide(pipeline.dtype)
    clip = to_model_range(clip_of(given.source or given.scene))
    latents = encode_video(vae, clip.to(pipeline.device, dtype)).to(dtype)
    return decode_latents(vae, latents, None, silent)


def rendered_samples(
    asks: Sequence[Ask], *, soft: bool, progress: Progress = silent
) -> Iterator[Sample]:
    """The rendered scenes, as from a perfect model, to validate the judge.

    `soft` blurs them (sigma 1.2 pixels) and adds noise (sigma 0.03) to resemble generated clips.
    Reports the stage "judge".
    """
    import cv2

    for number, given in enumerate(asks):
        frames = clip_of(given.scene)
        if soft:
            blurred = [cv2.GaussianBlur(frame, (0, 0), _SOFT_BLUR) for frame in frames.numpy()]
            noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(number))
            frames = (torch.from_numpy(np.stack(blurred)) + _SOFT_NOISE * noise).clamp(0, 1)
        yield Sample(given.task, given.scene, frames, None, given.source)
        progress("judge", number + 1, len(asks))
