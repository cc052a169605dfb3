"""`evaluate-meaning`: whether a model's clips show what was asked for, on synthetic scenes."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, counted, printable
from ..memory.options import Memory
from ..small_model import is_built_in
from . import loras
from .bars import ProgressBars
from .memory import add_memory, memory_of
from .options import add_device, add_dtype, add_force, checkpoint_of, flag, path_of, size_of

if TYPE_CHECKING:
    from ..pipeline import Pipeline
    from ..shapes.judge import Ask, Judged, MeaningReport, Sampling

_EXAMPLES = """\
The scenes are those of make-clips: moving coloured shapes. Tasks follow from a checkpoint's head:
text, start, start_end and region (InP), control, reference and trajectory (Control), camera
(Control-Camera).

Several checkpoints, schedulers or numbers of steps have a report each, in a folder of its name, and
an overview of all. A clip's noise depends on --seed and on the number of its scene alone, so that a
figure does not depend on what else is judged.

examples:
  evaluate-meaning "small (built in): InP" "small (built in): Control" --steps 20 \\
                   --guidance-scale 4 start_end=1 control=1 reference=2 --out reports/meaning
  evaluate-meaning runs/inp --lora few.safetensors --steps 1 2 4 --guidance-scale 1 --out report
  evaluate-meaning runs/v5 --scheduler DDIM Euler "Euler A" DPM++ PNDM --steps 20 \\
                   --scenes-seed 990000 990001 990002 --out report
  evaluate-meaning --rendered soft --count 300 --out reports/judge     (no model: tests the judge)
"""

#: Options about sampling, which `--rendered` has none of.
_OF_MODELS = (
    "lora", "scheduler", "steps", "guidance_scale", "guidance_window", "step_cache",
    "negative_prompt", "keep_known",
)  # fmt: skip


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "evaluate-meaning",
        help="judge whether a model's clips show what was asked for",
        description="Generate clips for held-out scenes of known content, analyse them by computer "
        "vision and count what is right: colour, shape, motion, known images, edges, camera, "
        "tracks. " + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("checkpoints", nargs="*", type=_checkpoint, metavar="CHECKPOINT",
                        help="checkpoint folders or names of built-in models")  # fmt: skip
    parser.add_argument("--rendered", choices=("clean", "soft"),
                        help="instead of checkpoints, judge the rendered scenes themselves, "
                        "unchanged or blurred and noisy")  # fmt: skip
    parser.add_argument("--out", type=path_of, required=True, metavar="DIR",
                        help="folder for report.json, confusion tables and contact sheets; "
                        "with several reports, one subfolder each and an overview")  # fmt: skip
    add_force(parser)
    parser.add_argument("--tasks", nargs="+", action="extend", metavar="TASK",
                        help="text, start, start_end, region, control, reference, camera, "
                        "trajectory; default: all that the head supports")  # fmt: skip
    parser.add_argument("--count", type=int, default=100,
                        help="scenes per task and seed, default: 100")  # fmt: skip
    parser.add_argument("--scenes-seed", type=int, nargs="+", action="extend", metavar="SEED",
                        help="seeds of the held-out scenes, different from that of the training "
                        "clips; several are judged together, with their spread; "
                        "default: 990000")  # fmt: skip
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the prompts")
    parser.add_argument("--batch", type=int, default=8,
                        help="batch size for tasks with only a prompt, default: 8")  # fmt: skip
    _add_settings(parser.add_argument_group("settings"))
    loras.add_options(parser.add_argument_group("LoRA"))
    add_device(parser)
    add_dtype(parser)
    add_memory(parser.add_argument_group("memory"))


def _add_settings(group: Any) -> None:
    group.add_argument("--size", type=size_of, default=(96, 96), metavar="HxW",
                       help="height x width of the clips, default: 96x96")  # fmt: skip
    group.add_argument("--frames", type=int, default=17, help="4n + 1, default: 17")
    group.add_argument("--fps", type=float, default=8.0, help="default: 8")
    group.add_argument("--steps", type=int, nargs="+", action="extend", metavar="N",
                       help="inference steps, default: 50; several: a report each")  # fmt: skip
    group.add_argument("--guidance-scale", nargs="+", action="extend", metavar="[TASK=]SCALE",
                       help="default: 6; 1: off, with one evaluation of the denoiser per step; "
                       "with TASK=, for that task alone")  # fmt: skip
    group.add_argument("--guidance-window", type=float, metavar="SHARE", help="as for generate")
    group.add_argument("--step-cache", type=float, metavar="SHARE", help="as for generate")
    group.add_argument("--negative-prompt", help="what to avoid")
    group.add_argument("--scheduler", nargs="+", action="extend", metavar="NAME",
                       help="as for generate; several: a report each")  # fmt: skip
    group.add_argument("--keep-known", action=argparse.BooleanOptionalAction, default=None,
                       help="as for generate")  # fmt: skip
    group.add_argument("--seed", type=int, default=43, help="seed of the noise, default: 43")


@dataclass(frozen=True)
class _Checkpoint:
    """A checkpoint as it was given, and its folder."""

    given: str
    folder: Path

    @property
    def name(self) -> str:
        """Its name as a part of a folder's."""
        return _slug(self.given) if is_built_in(self.given) else self.folder.resolve().name


def _checkpoint(text: str) -> _Checkpoint:
    return _Checkpoint(text, checkpoint_of(text))


@dataclass(frozen=True)
class _Run:
    """What one report is about: the sampling, evaluations per clip by task, and its folder."""

    sampling: Sampling
    evaluations: dict[str, int]
    folder: Path


@dataclass(frozen=True)
class _Plan:
    """The runs of a checkpoint, all for the same scenes."""

    name: str
    pipeline: Pipeline
    asks: list[Ask]
    runs: list[_Run]


def run(arguments: argparse.Namespace) -> int:
    """Judge every checkpoint and print where the reports are."""
    _check(arguments)
    started = time.perf_counter()
    judge = _judge_checkpoints if arguments.rendered is None else _judge_rendered
    judge(arguments)
    print(f"{time.perf_counter() - started:.1f} s")
    return 0


def _judge_checkpoints(arguments: argparse.Namespace) -> None:
    from ..shapes.judge import check_meaning, check_overview, overview, write_overview

    samplings = _samplings(arguments)
    plans = [_planned(checkpoint, arguments, samplings) for checkpoint in arguments.checkpoints]
    _check_guided({ask.task for plan in plans for ask in plan.asks}, samplings[0].guidance)
    several = len(plans) * len(samplings) > 1
    if several:
        check_overview(arguments.out, force=arguments.force)
    for plan in plans:
        for one in plan.runs:
            check_meaning(one.folder, one.evaluations, force=arguments.force)
    judged: list[Judged] = []
    while plans:
        plan = plans.pop(0)  # before the next one's networks are loaded, this one's are freed
        judged += _judge(plan, arguments)
    if several:
        written = write_overview(arguments.out, judged)
        print("\n".join([overview(judged), *map(str, written)]))


def _check(arguments: argparse.Namespace) -> None:
    """Raise if options contradict each other, or a value is given twice."""
    if bool(arguments.checkpoints) == (arguments.rendered is not None):
        raise InputError("evaluate-meaning needs either checkpoints or --rendered.")
    told = [name for name in _OF_MODELS if getattr(arguments, name) not in (None, [])]
    if arguments.rendered is not None and told:
        raise InputError(
            f"--rendered judges scenes that no model made; omit {', '.join(map(flag, told))}."
        )
    if arguments.batch < 1:
        raise InputError(f"--batch is {arguments.batch}; it must be at least 1.")
    for name in ("tasks", "scenes_seed", "steps", "scheduler"):
        _check_distinct(flag(name), getattr(arguments, name) or ())
    names = [checkpoint.name for checkpoint in arguments.checkpoints]
    if len({name.casefold() for name in names}) < len(names):
        raise InputError(
            f"The checkpoints are named {', '.join(names)}; reports go to folders of these names, "
            "so the names must differ. Judge the checkpoints one by one."
        )


def _check_distinct(option: str, values: Sequence[Hashable]) -> None:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise InputError(f"{option} has {twice} more than once; give each value once.")


def _check_guided(judged: set[str], guidance: Iterable[str]) -> None:
    useless = [task for task in guidance if task not in judged]
    if useless:
        raise InputError(
            f"--guidance-scale has a value for {', '.join(useless)}, but what is judged is "
            f"{', '.join(sorted(judged))}. Omit it."
        )


def _guidance(arguments: argparse.Namespace) -> tuple[float | None, dict[str, float]]:
    """The guidance scale of all tasks if it is given, and of single ones."""
    from ..shapes.judge import TASKS

    scales: dict[str, float] = {}
    for text in arguments.guidance_scale or ():
        task, _, value = text.rpartition("=")
        try:
            scale = float(value)
        except ValueError:
            scale = None
        if scale is None or (task and task not in TASKS) or text.startswith("="):
            raise InputError(
                f"--guidance-scale {text!r} is not SCALE or TASK=SCALE, such as 4 or control=1; "
                f"tasks are {', '.join(TASKS)}."
            )
        if task in scales:
            raise InputError(f"--guidance-scale has two values for {task or 'all tasks'}.")
        scales[task] = scale
    return scales.pop("", None), scales


def _samplings(arguments: argparse.Namespace) -> list[Sampling]:
    """Every scheduler with every number of steps."""
    from ..settings import Settings
    from ..shapes.judge import Sampling

    height, width = arguments.size
    scale, guidance = _guidance(arguments)
    names = (
        "frames", "fps", "guidance_window", "step_cache", "negative_prompt", "keep_known", "seed",
    )  # fmt: skip
    given = {name: getattr(arguments, name) for name in names} | {"guidance_scale": scale}
    told = {name: value for name, value in given.items() if value is not None}
    settings = Settings(height=height, width=width, **told)
    used = loras.given(arguments)
    return [
        Sampling(replace(settings, scheduler=scheduler, steps=steps), guidance, used)
        for scheduler, steps in product(
            arguments.scheduler or (None,), arguments.steps or (settings.steps,)
        )
    ]


def _planned(
    checkpoint: _Checkpoint, arguments: argparse.Namespace, samplings: Sequence[Sampling]
) -> _Plan:
    """What is judged of a checkpoint; raises before anything is generated."""
    from ..pipeline import Pipeline
    from ..shapes.judge import check_loras, evaluations_per_clip, tasks_of

    pipeline = Pipeline.load(
        checkpoint.folder,
        device=arguments.device,
        dtype=arguments.dtype,
        memory=memory_of(arguments, Memory()),
        embedding_cache=False,  # prompts of one evaluation, encoded once
    )
    info = pipeline.info
    possible = tasks_of(info.transformer)
    impossible = [task for task in arguments.tasks or () if task not in possible]
    if impossible:
        raise InputError(
            f"{checkpoint.given} has the head {info.head.value}, which does not support "
            f"{', '.join(impossible)}; it supports {', '.join(possible)}."
        )
    for note in check_loras(pipeline, samplings[0].loras):
        print(f"note: {printable(note)}")
    asks = _asks(arguments.tasks or possible, arguments)
    runs = []
    for sampling in samplings:
        settings = sampling.settings
        name = settings.scheduler_for(info.version, info.scheduler, strength=1)
        own = replace(sampling, settings=replace(settings, scheduler=name))
        evaluations = evaluations_per_clip(pipeline, asks, own)
        runs.append(_Run(own, evaluations, _folder(checkpoint, own, arguments)))
    return _Plan(checkpoint.given, pipeline, asks, runs)


def _folder(checkpoint: _Checkpoint, sampling: Sampling, arguments: argparse.Namespace) -> Path:
    """The folder of a report, named after what there are several of."""
    parts = [checkpoint.name] if len(arguments.checkpoints) > 1 else []
    parts += [_slug(str(sampling.settings.scheduler))] if len(arguments.scheduler or ()) > 1 else []
    parts += [f"steps-{sampling.settings.steps}"] if len(arguments.steps or ()) > 1 else []
    out: Path = arguments.out
    return out / "-".join(parts) if parts else out


def _slug(name: str) -> str:
    """A name without characters that a folder's cannot have."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.")


def _asks(tasks: Iterable[str], arguments: argparse.Namespace) -> list[Ask]:
    from ..settings import Settings
    from ..shapes.judge import asks_for

    height, width = arguments.size
    settings = Settings(height=height, width=width, frames=arguments.frames)
    return [
        asked
        for task in tasks
        for seed in _seeds(arguments)
        for asked in asks_for(
            task, arguments.count, settings, seed=seed, language=arguments.language
        )
    ]


def _seeds(arguments: argparse.Namespace) -> list[int]:
    from ..shapes.judge import HELD_OUT_SEED

    return arguments.scenes_seed or [HELD_OUT_SEED]


def _judge(plan: _Plan, arguments: argparse.Namespace) -> list[Judged]:
    """Generate and judge the clips of a checkpoint, and write its reports."""
    from ..shapes.judge import Judged, encode_asks, judge_all, make_samples

    pipeline, asks, text, judged = plan.pipeline, plan.asks, None, []
    for one in plan.runs:
        settings = one.sampling.settings
        costs = ", ".join(f"{task} {number}" for task, number in one.evaluations.items())
        print(
            f"{plan.name}: {counted(len(asks), 'clip')} on {pipeline.device}, "
            f"{settings.scheduler}, {counted(settings.steps, 'step')}; evaluations of the denoiser "
            f"per clip: {costs}"
        )
        with ProgressBars() as bars:
            text = text or encode_asks(pipeline, asks, settings)
            report = judge_all(
                make_samples(
                    pipeline, asks, one.sampling, text=text, batch=arguments.batch, progress=bars
                )
            )
        _write(one.folder, report, arguments, _made_with(plan, one))
        name = str(settings.scheduler)
        judged.append(Judged(plan.name, name, settings.steps, one.evaluations, report))
    return judged


def _judge_rendered(arguments: argparse.Namespace) -> None:
    from ..shapes.judge import TASKS, check_meaning, judge_all, rendered_samples

    asks = _asks(arguments.tasks or TASKS, arguments)
    check_meaning(arguments.out, dict.fromkeys(ask.task for ask in asks), force=arguments.force)
    with ProgressBars() as bars:
        soft = arguments.rendered == "soft"
        report = judge_all(rendered_samples(asks, soft=soft, progress=bars))
    height, width = arguments.size
    rendered = {"height": height, "width": width, "frames": arguments.frames}
    made_with = {"made_by": f"rendering, {arguments.rendered}", **rendered}
    _write(arguments.out, report, arguments, made_with)


def _made_with(plan: _Plan, one: _Run) -> dict[str, Any]:
    """How the clips of a report were made: what it takes to make them again."""
    from ..recipe import fingerprint

    info, sampling = plan.pipeline.info, one.sampling
    return {
        "made_by": plan.name,
        "checkpoint": {
            "version": info.version.value,
            "head": info.head.value,
            "size": info.size,
            "fingerprint": fingerprint(info),
        },
        "settings": asdict(sampling.settings),
        "guidance_scales": {task: sampling.of(task).guidance_scale for task in one.evaluations},
        "evaluations_per_clip": one.evaluations,
        "loras": loras.as_json(sampling.loras),
        "memory": asdict(plan.pipeline.memory),
        "device": str(plan.pipeline.device),
        "dtype": str(plan.pipeline.dtype).removeprefix("torch."),
    }


def _write(
    folder: Path, report: MeaningReport, arguments: argparse.Namespace, made_with: dict[str, Any]
) -> None:
    from ..shapes.judge import write_meaning

    scenes = {
        "language": arguments.language,
        "scenes_seeds": _seeds(arguments),
        "count": arguments.count,
    }
    written = write_meaning(folder, report, made_with | scenes)
    print("\n".join([report.table(), *map(str, written)]))
