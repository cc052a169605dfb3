"""`evaluate-meaning`: whether a model's clips show what was asked for, on synthetic scenes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..memory.options import Memory
from .bars import ProgressBars
from .memory import add_memory, memory_of
from .options import add_device, add_dtype, add_force, path_of, size_of

if TYPE_CHECKING:
    from ..settings import Settings
    from ..shapes.judge import Ask, Sample

_EXAMPLES = """\
The scenes are those of make-clips: moving coloured shapes. Tasks follow from a checkpoint's head:
text, start, start_end and region (InP), control, reference and trajectory (Control), camera
(Control-Camera).

examples:
  evaluate-meaning runs/inp runs/control --count 100 --steps 30 --out reports/meaning
  evaluate-meaning --rendered soft --count 300 --out reports/judge     (no model: tests the judge)
"""


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
    parser.add_argument("checkpoints", nargs="*", type=path_of, metavar="CHECKPOINT",
                        help="checkpoint folders, each with its own report")  # fmt: skip
    parser.add_argument("--rendered", choices=("clean", "soft"),
                        help="instead of checkpoints, judge the rendered scenes themselves, "
                        "unchanged or blurred and noisy")  # fmt: skip
    parser.add_argument("--out", type=path_of, required=True, metavar="DIR",
                        help="folder for report.json, confusion tables and contact sheets; "
                        "with several checkpoints, one subfolder each")  # fmt: skip
    add_force(parser)
    parser.add_argument("--tasks", nargs="+", metavar="TASK",
                        help="text, start, start_end, region, control, reference, camera, "
                        "trajectory; default: all that the head supports")  # fmt: skip
    parser.add_argument("--count", type=int, default=100, help="scenes per task, default: 100")
    parser.add_argument("--scenes-seed", type=int, metavar="SEED",
                        help="seed of the held-out scenes, different from that of the training "
                        "clips; default: 990000")  # fmt: skip
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the prompts")
    parser.add_argument("--batch", type=int, default=8,
                        help="batch size for tasks with only a prompt, default: 8")  # fmt: skip
    _add_settings(parser.add_argument_group("settings"))
    add_device(parser)
    add_dtype(parser)
    add_memory(parser.add_argument_group("memory"))


def run(arguments: argparse.Namespace) -> int:
    """Judge every checkpoint and print where the reports are."""
    from ..shapes.judge import check_meaning

    if bool(arguments.checkpoints) == (arguments.rendered is not None):
        raise InputError("evaluate-meaning needs either checkpoints or --rendered.")
    if arguments.batch < 1:
        raise InputError(f"--batch is {arguments.batch}; it must be at least 1.")
    settings = _settings(arguments)
    if arguments.rendered is not None:
        _judge_rendered(arguments, settings)
        return 0
    names = [path.resolve().name for path in arguments.checkpoints]
    if len(set(names)) < len(names):
        raise InputError(
            f"The checkpoints are named {', '.join(names)}; reports go to folders of these names, "
            "so the names must differ. Judge the checkpoints one by one."
        )
    runs = [_prepared(path, arguments, settings) for path in arguments.checkpoints]
    for name, (_, asks) in zip(names, runs, strict=True):
        folder = arguments.out if len(runs) == 1 else arguments.out / name
        check_meaning(folder, dict.fromkeys(ask.task for ask in asks), force=arguments.force)
    for path, name, (pipeline, asks) in zip(arguments.checkpoints, names, runs, strict=True):
        from ..shapes.judge import make_samples

        folder = arguments.out if len(runs) == 1 else arguments.out / name
        print(f"{path}: {len(asks)} clips on {pipeline.device}")
        with ProgressBars() as bars:
            samples = make_samples(pipeline, asks, settings, batch=arguments.batch, progress=bars)
            _report(folder, samples, arguments, settings, made_by=str(path))
    return 0


def _add_settings(group: Any) -> None:
    group.add_argument("--size", type=size_of, default=(96, 96), metavar="HxW",
                       help="height x width of the clips, default: 96x96")  # fmt: skip
    group.add_argument("--frames", type=int, default=17, help="4n + 1, default: 17")
    group.add_argument("--fps", type=float, default=8.0, help="default: 8")
    group.add_argument("--steps", type=int, default=50, help="inference steps, default: 50")
    group.add_argument("--guidance-scale", type=float, default=6.0, help="default: 6; 1: off")
    group.add_argument("--negative-prompt", help="what to avoid")
    group.add_argument("--scheduler", help="as for generate")
    group.add_argument("--seed", type=int, default=43, help="seed of the noise, default: 43")


def _settings(arguments: argparse.Namespace) -> Settings:
    from ..settings import Settings

    height, width = arguments.size
    names = ("frames", "fps", "steps", "guidance_scale", "negative_prompt", "scheduler", "seed")
    given = {name: getattr(arguments, name) for name in names}
    told = {name: value for name, value in given.items() if value is not None}
    return Settings(height=height, width=width, **told)


def _prepared(
    path: Path, arguments: argparse.Namespace, settings: Settings
) -> tuple[Any, list[Ask]]:
    """The pipeline of a checkpoint and its scenes; raises before anything is generated."""
    from ..pipeline import Pipeline
    from ..shapes.judge import tasks_of

    pipeline = Pipeline.load(
        path,
        device=arguments.device,
        dtype=arguments.dtype,
        memory=memory_of(arguments, Memory()),
        embedding_cache=False,  # prompts of one evaluation, encoded once
    )
    possible = tasks_of(pipeline.info.transformer)
    impossible = [task for task in arguments.tasks or () if task not in possible]
    if impossible:
        raise InputError(
            f"{path} has the head {pipeline.info.head.value}, which does not support "
            f"{', '.join(impossible)}; it supports {', '.join(possible)}."
        )
    return pipeline, _asks(arguments.tasks or possible, arguments, settings)


def _asks(tasks: Iterable[str], arguments: argparse.Namespace, settings: Settings) -> list[Ask]:
    from ..shapes.judge import HELD_OUT_SEED, asks_for

    seed = HELD_OUT_SEED if arguments.scenes_seed is None else arguments.scenes_seed
    return [
        asked
        for task in tasks
        for asked in asks_for(
            task, arguments.count, settings, seed=seed, language=arguments.language
        )
    ]


def _judge_rendered(arguments: argparse.Namespace, settings: Settings) -> None:
    from ..shapes.judge import TASKS, check_meaning, rendered_samples

    asks = _asks(arguments.tasks or TASKS, arguments, settings)
    check_meaning(arguments.out, dict.fromkeys(ask.task for ask in asks), force=arguments.force)
    with ProgressBars() as bars:
        samples = rendered_samples(asks, soft=arguments.rendered == "soft", progress=bars)
        made_by = f"rendering, {arguments.rendered}"
        _report(arguments.out, samples, arguments, settings, made_by=made_by)


def _report(
    folder: Path,
    samples: Iterable[Sample],
    arguments: argparse.Namespace,
    settings: Settings,
    *,
    made_by: str,
) -> None:
    from dataclasses import asdict

    from ..shapes.judge import judge_all, write_meaning

    started = time.perf_counter()
    report = judge_all(samples)
    made_with = {"made_by": made_by, "language": arguments.language, "settings": asdict(settings)}
    written = write_meaning(folder, report, made_with)
    print(report.table())
    for file in written:
        print(file)
    print(f"{time.perf_counter() - started:.1f} s")
