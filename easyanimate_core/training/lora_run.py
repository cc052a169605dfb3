"""Trains a LoRA on clips in memory, with the few settings of a form.

Shapes: N images (clips x frames per clip), F frames, H and W pixels.
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

from ..errors import HeadError, HeldError, InputError, counted, there_are
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
from .terms import Terms, in_terms
from .tracking import CURVES_FILE, LOG_FILE, Report, is_of_a_step, read_log, tell_nobody

#: The task of each head. Other heads need a control video or a camera path for every clip.
_TASKS = {Head.T2V: "text_to_video", Head.INPAINT: "inpaint"}

_WARMUP = 10
#: Steps between states. Every step is logged, so the curve shows every loss.
_SAVE_EVERY = 50
#: LoRAs to choose from, the newest ones. Of a 7b model, one has hundreds of megabytes.
_LORAS = 5
#: A job is the run's name: with another setting, but for the steps, it is another run.
_TERMS = Terms(
    {
        "run.steps": "steps",
        "optimizer.learning_rate": "learning_rate",
        "model.lora.rank": "rank",
        "model.lora.alpha": "alpha",
        "data.tokens": "images",
        "data.frames": "frames_per_clip",
    },
    elsewhere="change the seed for a new run",
    erasing="",
    resumes=False,
)
_DIGEST_LETTERS = 10


@dataclass(frozen=True)
class LoraJob:
    """What to train on, and how.

    `pictures` are [N, H, W, 3] in [0, 1], clip after clip; `captions` has one line for all clips or
    one line per clip. Every `sample_every` steps, if any, the LoRA makes what `sample_prompt` says,
    or the first caption.
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
    sample_every: int = 0
    sample_prompt: str = ""


@dataclass(frozen=True)
class LoraResult:
    """`file` is the trained LoRA, `curves` an image [1, H, W, 3], `report` a summary of the run."""

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
    report: Report = tell_nobody,
) -> LoraResult:
    """Train the LoRA, or resume an interrupted run of the same job.

    Args:
        job: What to train.
        folder: Receives a folder per job with its states, log and result, and a shared cache of
            latents and captions.
        precision: bf16 halves the memory on GPUs that support it.
        cpu: Train on the CPU even if there is a GPU.
        progress: Called with the stages "captions", "train" and "sample"; may raise to stop, and
            the next run of the same job resumes. If it is a `Watch`, it is told of LoRAs and
            samples.
        report: Called with every line that the run has to say, without those of single steps.

    Raises:
        InputError: The images, captions and lengths do not match.
        HeadError: The checkpoint's head needs a control video or a camera path.
        CheckpointError: The checkpoint, or the state of an earlier run, is damaged.
        MediaError: The disk is full or not writable.
    """
    captions = _captions(job)
    info = inspect_checkpoint(job.checkpoint)
    task = _task(info)
    config = _config(job, task, folder, precision)
    records = _records(job, captions)
    (shape,) = shapes_for(records[0], config.data.tokens, config.data.frames)
    said: list[str] = []

    def tell(line: str) -> None:
        if not is_of_a_step(line):
            said.append(line)
            report(line)

    try:
        with in_terms(_TERMS):
            (file,) = run_training(config, records=records, cpu=cpu, progress=progress, report=tell)
    except HeldError as error:
        (file,) = error.kept.iterdir()
        tell(f"note: {error}")
    curves = read_image(config.output / CURVES_FILE)
    return LoraResult(file, curves, _report(job, info, config, shape, said))


def _captions(job: LoraJob) -> list[str]:
    """Check the job and return one caption per clip."""
    check_pixels("images", job.pictures)
    check_frames(job.frames_per_clip)
    count, left = divmod(len(job.pictures), job.frames_per_clip)
    if left:
        raise InputError(
            f"{there_are(len(job.pictures), 'image').capitalize()} and frames_per_clip is "
            f"{job.frames_per_clip}; the number of images must be a multiple of it. Use whole "
            "clips, or 1 for still images."
        )
    if min(job.pictures.shape[1:3]) < SIZE_MULTIPLE:
        raise InputError(
            f"The images are {job.pictures.shape[2]} x {job.pictures.shape[1]} pixels; the "
            f"minimum is {SIZE_MULTIPLE} x {SIZE_MULTIPLE}. Use larger ones."
        )
    lines = [line.strip() for line in job.captions.strip().splitlines()]
    if not lines or not all(lines):
        raise InputError(
            "captions has no lines or an empty one. Describe what the clips show: one line for "
            "all of them, or one line per clip."
        )
    if len(lines) not in (1, count):
        raise InputError(
            f"captions has {counted(len(lines), 'line')} and {there_are(count, 'clip')}. Write "
            "one line for all of them, or one line per clip."
        )
    return lines if len(lines) == count else lines * count


def _task(info: CheckpointInfo) -> str:
    task = _TASKS.get(info.head)
    if task is None:
        needs = "camera path" if info.head is Head.CAMERA else "control video"
        raise HeadError(
            f"This is a {info.head.value} checkpoint: training it needs a {needs} for every clip. "
            f"Train it on the command line ({own_command('train')}), or choose a T2V or an InP "
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
            "save_every": min(_SAVE_EVERY, job.steps),
            "keep": 1,
            "keep_loras": _LORAS,
            "log_every": 1,
            "tensorboard": False,
        },
        "sample": {"every": job.sample_every, "prompt": job.sample_prompt.strip() or None},
    }
    # Jobs that differ in anything but the number of steps and the samples get their own folders.
    kept = {name: value for name, value in content.items() if name != "sample"}
    same = json.dumps({**kept, "run": None, "precision": precision, "captions": job.captions})
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


def _load(clip: Tensor, shape: Shape, start: int = 0) -> Sample:
    # Copied, because inference tensors of a host cannot be used for training.
    part = clip[start : start + shape.frames].float().clone()
    return Sample(resize_cover(part, shape.height, shape.width))


def _bytes(pictures: Tensor) -> bytes:
    return pictures.float().cpu().contiguous().numpy().tobytes()


def _report(
    job: LoraJob, info: CheckpointInfo, config: TrainConfig, shape: Shape, said: Sequence[str]
) -> str:
    rows = [row for row in read_log(config.output / LOG_FILE) if "loss" in row]
    losses, done = [row["loss"] for row in rows], rows[-1]["step"]
    part = max(1, len(losses) // 10)
    first, last = (sum(values) / part for values in (losses[:part], losses[-part:]))
    height, width = job.pictures.shape[1:3]
    count = len(job.pictures) // job.frames_per_clip
    lines = [
        f"{counted(done, 'step')} on {counted(count, 'clip')} of "
        f"{counted(shape.frames, 'frame')}, {shape.width} x {shape.height}, "
        f"for EasyAnimate {info.version.value} {info.head.value}; rank {job.rank}.",
        f"Loss: {first:.4g} in the first tenth of the steps, {last:.4g} in the last.",
    ]
    if (height, width) != (shape.height, shape.width):
        lines.append(
            f"The images are {width} x {height}; they were scaled and cropped to {shape.width} x "
            f"{shape.height}, because sides must be multiples of {SIZE_MULTIPLE}."
        )
    lines += said
    lines.append(
        f"To train further, run more steps with the same images and settings: the state, the last "
        f"{_LORAS} LoRAs and the samples are kept in {config.output}, which can be deleted."
    )
    return "\n".join(lines)
