"""Clips made by a checkpoint for held-out scenes: what every task is given, and the run itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...conditioning.encode import encode_video, to_model_range
from ...errors import HeadError, InputError
from ...memory.offload import placed
from ...models.precision import wide
from ...models.specs import TransformerConfig
from ...models.vae import AutoencoderKLMagvit
from ...pipeline import Pipeline, decode_latents
from ...progress import Progress, silent
from ...settings import Settings
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
from ..scenes import Scene, camera_of, caption, control_video, make_scene, tracks_of
from .meaning import TASKS, Sample, clip_of, edited_region, recoloured

#: Kind of the scenes that each task is asked for: edits and tracks need a body that moves.
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

#: Seed of the held-out scenes, another than that of any training clips.
HELD_OUT_SEED = 990_000

# Blur in pixels and noise of the rendered clips that stand for soft ones.
_SOFT_BLUR, _SOFT_NOISE = 1.2, 0.03


@dataclass(frozen=True)
class Ask:
    """What a model is given for one clip: the prompt, the mode with its sources.

    `scene` is what the clip shall show, `source` the scene of a clip that is edited.
    """

    task: str
    scene: Scene
    prompt: str
    given: Task
    source: Scene | None = None


def ask(task: str, scene: Scene, *, language: str = "en") -> Ask:
    """What a model is given for `scene`; `InputError` where no such task is known.

    The region's scene is that of the clip: it is asked for in another colour.
    """
    if task == "region":
        wanted = recoloured(scene)
        given: Task = RegionEdit(clip_of(scene), edited_region(scene))
        return Ask(task, wanted, caption(wanted, language), given, scene)
    clip = clip_of(scene)
    if task == "text":
        given = TextToVideo()
    elif task == "start":
        given = ImageToVideo(start=clip[:1])
    elif task == "start_end":
        given = ImageToVideo(start=clip[:1], end=clip[-1:])
    elif task in ("control", "reference"):
        edges = torch.from_numpy(control_video(scene, "edges"))
        given = Control(edges, clip[:1] if task == "reference" else None)
    elif task == "camera":
        given = Camera(poses=camera_of(scene))
    elif task == "trajectory":
        given = Trajectory(tracks_of(scene))
    else:
        raise InputError(f"The task is {task!r}; it must be one of {', '.join(TASKS)}.")
    return Ask(task, scene, caption(scene, language), given)


def asks_for(
    task: str, count: int, settings: Settings, *, seed: int = HELD_OUT_SEED, language: str = "en"
) -> list[Ask]:
    """The first `count` scenes of a held-out list, in the settings' size and length.

    Raises `InputError` where the settings leave either open, or nothing is asked for.
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
    """The tasks that a checkpoint's head can do."""
    scene = make_scene(HELD_OUT_SEED, 0, kind="move", frames=5)
    found = []
    for task in TASKS:
        try:
            check_head(ask(task, scene).given, config)
        except HeadError:
            continue
        found.append(task)
    return tuple(found)


def make_samples(
    pipeline: Pipeline,
    asks: Sequence[Ask],
    settings: Settings,
    *,
    batch: int = 8,
    progress: Progress = silent,
) -> Iterator[Sample]:
    """Make a clip for every ask; clip number i has the noise of the settings' seed plus i.

    Args:
        pipeline: The checkpoint.
        asks: All of one task or of several.
        settings: The size and length of the scenes, and the sampling.
        batch: Clips at once, of those that are given the prompt alone.
        progress: Reports the stage "generate".

    Raises:
        InputError: The checkpoint cannot do a task; raised before any weight is loaded.
    """
    for task in {given.task: given.given for given in asks}.values():
        check_head(task, pipeline.info.transformer)
    text = pipeline.encode([given.prompt for given in asks], settings.negative_prompt)
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
            of_group = replace(settings, seed=settings.seed + start)
            made = pipeline.generate(_rows(text, start, end), asks[start].given, of_group).frames
            for given, frames in zip(asks[start:end], made, strict=True):
                shown = None if vae is None else _reconstructed(vae, given, pipeline)
                yield Sample(given.task, given.scene, frames, shown, given.source)
            start = end
        progress("generate", len(asks), len(asks))


_KNOWN_PIXELS = ("start", "start_end", "region")


def _end_of_batch(asks: Sequence[Ask], start: int, batch: int) -> int:
    """Clips from the prompt alone go together; any other has sources of its own."""
    end = start + 1
    while end < min(start + batch, len(asks)) and asks[start].task == asks[end].task == "text":
        end += 1
    return end


def _rows(text: PromptEmbeddings, start: int, end: int) -> PromptEmbeddings:
    rows = slice(start, end)
    return replace(text, positive=text.positive.rows(rows), prompts=text.prompts[rows])


@torch.inference_mode()
def _reconstructed(vae: AutoencoderKLMagvit, given: Ask, pipeline: Pipeline) -> Tensor | None:
    """What the VAE makes of the clip that the given pixels are of."""
    if given.task not in _KNOWN_PIXELS:
        return None
    dtype = wide(pipeline.dtype)
    clip = to_model_range(clip_of(given.source or given.scene))
    latents = encode_video(vae, clip.to(pipeline.device, dtype)).to(dtype)
    return decode_latents(vae, latents, None, silent)


def rendered_samples(
    asks: Sequence[Ask], *, soft: bool, progress: Progress = silent
) -> Iterator[Sample]:
    """The scenes themselves as if a perfect model had made them: the judge's own proof.

    `soft` blurs them (sigma 1.2 pixels) and adds noise (sigma 0.03), as generated pictures are.
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
