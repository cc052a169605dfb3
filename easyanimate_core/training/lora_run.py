"""A LoRA of clips in memory, with the settings that one person chooses in a form.

Shapes: N pictures (clips x frames per clip), F frames, H and W pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from ..errors import HeadError, HeldError, InputError
from ..files.commands import own_command
from ..media import check_pixels, read_image, resize_cover
from ..models.geometry import SIZE_MULTIPLE, check_frames, num_tokens
from ..models.specs import Head
from ..progress import Progress, silent
from ..weights.files import CheckpointInfo, inspect_checkpoint
from .config import TrainConfig, parse_config
from .data.buckets import shapes_for
from .data.records import Record, Sample, Shape
from .run import run_training
from .tracking import CURVES_FILE, LOG_FILE, read_log

#: What a head's LoRA is trained for. The others need a control video or a camera for every clip.
_TASKS = {Head.T2V: "text_to_video", Head.INPAINT: "inpaint"}

_WARMUP = 10
#: Steps between states. A row of the log per step, so every step's loss is in the curve.
_SAVE_EVERY = 50
_DIGEST_LETTERS = 10


@dataclass(frozen=True)
class LoraJob:
    """What is learnt, and how.

    `pictures` are [N, H, W, 3] in [0, 1], clip after clip; `captions` has one line for all clips or
    one for each.
    """

    checkpoint: Path
    pictures: Tensor
    captions: str
    frames_per_clip: int
    steps: int
    rank: int
    alpha: float
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class LoraResult:
    """`file` is the trained LoRA, `curves` a picture [1, H, W, 3], `report` says what was done."""

    file: Path
    curves: Tensor
    report: str


def train_lora(
    job: LoraJob,
    folder: Path,
    *,
    precision: Literal["no", "bf16"] = "no",
    cpu: bool = False,
    progress: Progress = silent,
) -> LoraResult:
    """Train the LoRA, or go on where an earlier run of the same job was stopped.

    Args:
        job: What to train.
        folder: Gets a folder per job with its states, log and result, and a cache of latents and
            captions for all jobs.
        precision: bf16 halves the memory on a card that has it.
        cpu: Train on the CPU though there is a graphics card.
        progress: Reports the stages "captions" and "train"; may raise to stop, and the next run
            of the same job goes on.

    Raises:
        InputError: The pictures, captions or lengths do not fit each other.
        HeadError: The checkpoint's head needs a control video or a camera.
        CheckpointError: The checkpoint is damaged, or an earlier run's state is.
        MediaError: The disk is full or cannot be written to.
    """
    captions = _captions(job)
    info = inspect_checkpoint(job.checkpoint)
    task = _task(info)
    config = _config(job, task, folder, precision)
    records = _records(job, captions)
    (shape,) = shapes_for(records[0], config.data.tokens, config.data.frames)
    said: list[str] = []
    try:
        (file,) = run_training(
            config, records=records, cpu=cpu, progress=progress, report=said.append
        )
    except HeldError as error:
        (file,) = error.kept.iterdir()
        said.append(f"note: {error}")
    curves = read_image(config.output / CURVES_FILE)
    return LoraResult(file, curves, _report(job, info, config, shape, said))


def _captions(job: LoraJob) -> list[str]:
    """One per clip, after all checks of the job."""
    check_pixels("images", job.pictures)
    check_frames(job.frames_per_clip)
    count, left = divmod(len(job.pictures), job.frames_per_clip)
    if left:
        raise InputError(
            f"There are {len(job.pictures)} images and frames_per_clip is {job.frames_per_clip}; "
            "the number of images must be a multiple of it. Give whole clips, or 1 for pictures."
        )
    if min(job.pictures.shape[1:3]) < SIZE_MULTIPLE:
        raise InputError(
            f"The images are {job.pictures.shape[2]} x {job.pictures.shape[1]} pixels; the "
            f"smallest is {SIZE_MULTIPLE} x {SIZE_MULTIPLE}. Give larger ones."
        )
    lines = [line.strip() for line in job.captions.strip().splitlines()]
    if not lines or not all(lines):
        raise InputError(
            "captions has an empty line or no line. Write what the clips show: one line for all of "
            "them, or one line for each."
        )
    if len(lines) not in (1, count):
        raise InputError(
            f"captions has {len(lines)} lines and there are {count} clips. Write one line for all "
            "of them, or one line for each."
        )
    return lines if len(lines) == count else lines * count


def _task(info: CheckpointInfo) -> str:
    task = _TASKS.get(info.head)
    if task is None:
        needs = "camera path" if info.head is Head.CAMERA else "control video"
        raise HeadError(
            f"This is a {info.head.value} checkpoint: its training needs a {needs} for every clip, "
            f"which the command line has: {own_command('train')} - or choose a T2V or an InP "
            "checkpoint."
        )
    return task


def _config(job: LoraJob, task: str, folder: Path, precision: str) -> TrainConfig:
    height, width = (side // SIZE_MULTIPLE * SIZE_MULTIPLE for side in job.pictures.shape[1:3])
    content = {
        "task": task,
        "seed": job.seed,
        "model": {
            "checkpoint": str(job.checkpoint),
            "lora": {"rank": job.rank, "alpha": job.alpha},
        },
        "data": {
            "tokens": [num_tokens(job.frames_per_clip, height, width)],
            "frames": [job.frames_per_clip],
            "cache": str(folder / "cache"),
        },
        "optimizer": {"learning_rate": job.learning_rate, "warmup": _WARMUP},
        "run": {
            "steps": job.steps,
            "precision": precision,
            "gradient_checkpointing": True,
            "save_every": _SAVE_EVERY,
            "keep": 1,
            "log_every": 1,
            "tensorboard": False,
        },
    }
    # Every job has its own folder, whatever of it differs; more steps are the same job.
    same = json.dumps({**content, "run": None, "precision": precision, "captions": job.captions})
    total = hashlib.blake2b(same.encode(), digest_size=_DIGEST_LETTERS // 2)
    total.update(_bytes(job.pictures))
    return parse_config({**content, "output": str(folder / total.hexdigest())}, "The job")


def _records(job: LoraJob, captions: Sequence[str]) -> list[Record]:
    height, width = job.pictures.shape[1:3]
    return [
        Record(
            identity=hashlib.blake2b(_bytes(clip), digest_size=16).hexdigest(),
            captions=(caption,),
            frames=job.frames_per_clip,
            height=height,
            width=width,
            load=partial(_load, clip),
        )
        for clip, caption in zip(job.pictures.split(job.frames_per_clip), captions, strict=True)
    ]


def _load(clip: Tensor, shape: Shape) -> Sample:
    # Copied: what a host made in its inference mode may not enter training.
    return Sample(resize_cover(clip.float().clone(), shape.height, shape.width))


def _bytes(pictures: Tensor) -> bytes:
    return pictures.float().cpu().contiguous().numpy().tobytes()


def _report(
    job: LoraJob, info: CheckpointInfo, config: TrainConfig, shape: Shape, said: Sequence[str]
) -> str:
    losses = [row["loss"] for row in read_log(config.output / LOG_FILE) if "loss" in row]
    part = max(1, len(losses) // 10)
    first, last = (sum(values) / part for values in (losses[:part], losses[-part:]))
    height, width = job.pictures.shape[1:3]
    count = len(job.pictures) // job.frames_per_clip
    lines = [
        f"{job.steps} steps on {count} clips of {shape.frames} frames, {shape.width} x "
        f"{shape.height}, for EasyAnimate {info.version.value} {info.head.value}; rank {job.rank}.",
        f"Loss: {first:.4g} in the first tenth of the steps, {last:.4g} in the last.",
    ]
    if (height, width) != (shape.height, shape.width):
        lines.append(
            f"The images are {width} x {height}; they were scaled and cropped to {shape.width} x "
            f"{shape.height}, because sides are multiples of {SIZE_MULTIPLE}."
        )
    lines += [line for line in said if line.startswith(("Going on", "note: "))]
    lines.append(
        f"More steps with the same images and settings go on from here: {config.output} keeps the "
        "state and can be deleted."
    )
    return "\n".join(lines)
