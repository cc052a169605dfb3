"""`prepare-data`: turns raw videos into a training dataset, step by step."""

from __future__ import annotations

import argparse
import functools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, counted
from .bars import ProgressBars
from .options import add_device, add_dtype, add_force, path_of

_STEPS = """\
steps, in this order; each is optional and can be resumed:
  prepare-data scenes videos data           cut long videos into clips of one scene each
  prepare-data filter data                  measure every file, keep those within limits
  prepare-data deduplicate data             drop near-duplicates
  prepare-data caption data --model FOLDER  write a text for each file
  prepare-data manifest data data/train.json
  prepare-data report data                  show what was kept and dropped, and why

Every image and video in the folder is data, so clips from elsewhere can simply be added. Nothing is
deleted; dropped files are left out of the manifest.
"""
_LIMITS = """\
A limit is LOW..HIGH, and one side may be empty: --limit motion=0.01..0.5 --limit seconds=2..
--limit bars=.. switches a limit off. New limits are applied without measuring again.
"""
_PLAIN = argparse.RawDescriptionHelpFormatter


def add_parser(commands: Any) -> None:
    """Add the command and its steps."""
    parser = commands.add_parser(
        "prepare-data",
        help="make a training dataset from raw videos",
        description=_STEPS,
        formatter_class=_PLAIN,
    )
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    _add_scenes(steps)
    _add_filter(steps)
    _add_deduplicate(steps)
    _add_caption(steps)
    step = _step(steps, "manifest", _manifest, "write the manifest for training")
    step.add_argument("target", type=path_of, metavar="FILE", help="JSON file to write")
    add_force(step)
    _add_workers(step)
    _step(steps, "report", _report, "write preparation/report.html: plots and examples")


def _step(steps: Any, name: str, run: Any, text: str, **more: Any) -> argparse.ArgumentParser:
    step: argparse.ArgumentParser = steps.add_parser(name, help=text, description=text, **more)
    step.set_defaults(run=functools.partial(_checked, run))
    if name == "scenes":
        step.add_argument("videos", type=path_of, help="a video, or a folder of videos")
    step.add_argument("out", type=path_of, metavar="OUT", help="folder of the dataset")
    return step


def _checked(run: Any, arguments: argparse.Namespace) -> int:
    """Run a step after checking that its records can be written: the first may take an hour."""
    from ..files import check_writable
    from ..training.preparation.files import records_of

    check_writable(records_of(arguments.out))
    status: int = run(arguments)
    return status


def _add_workers(step: argparse.ArgumentParser) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    step.add_argument("--workers", type=int, default=cores or 1,
                      help="number of processes, default: the number of cores")  # fmt: skip


def _add_scenes(steps: Any) -> None:
    step = _step(steps, "scenes", _scenes, "split long videos into clips of one scene each")
    step.add_argument("--detector", default="content",
                      help="content, or adaptive for fast camera motion")  # fmt: skip
    step.add_argument("--threshold", type=float,
                      help="of a cut; default: 27 for content, 3 for adaptive")  # fmt: skip
    step.add_argument("--min-seconds", type=float, default=2.0,
                      help="shorter scenes are left out, default: 2")  # fmt: skip
    step.add_argument("--max-seconds", type=float, default=10.0,
                      help="longer scenes are divided equally, default: 10")  # fmt: skip
    step.add_argument("--margin", type=float, default=0.1, metavar="SECONDS",
                      help="trimmed on both sides of a cut, default: 0.1")  # fmt: skip
    step.add_argument("--crf", type=int, default=18,
                      help="quality of the clips, 0 (lossless) to 51, default: 18")  # fmt: skip
    step.add_argument("--list-only", action="store_true",
                      help="only write preparation/scenes.json, no clips")  # fmt: skip
    _add_workers(step)


def _add_filter(steps: Any) -> None:
    text = "measure every file and keep those within limits"
    step = _step(steps, "filter", _filter, text, epilog=_LIMITS, formatter_class=_PLAIN)
    step.add_argument("--measures", action=_ListMeasures, nargs=0,
                      help="list the measures and their limits, and exit")  # fmt: skip
    step.add_argument("--limit", action="append", default=[], metavar="MEASURE=LOW..HIGH",
                      help="change a limit; may be repeated")  # fmt: skip
    step.add_argument("--ocr", action=argparse.BooleanOptionalAction,
                      help="measure text; default: if rapidocr is installed")  # fmt: skip
    step.add_argument("--clip", type=path_of, metavar="FOLDER",
                      help="CLIP in transformers' format, for consistency and, if there are "
                      "captions, similarity")  # fmt: skip
    step.add_argument("--aesthetic-head", type=path_of, metavar="FILE",
                      help="LAION's linear layer for this CLIP, .safetensors or .pth")  # fmt: skip
    add_device(step, "of CLIP: ")
    _add_workers(step)


def _add_deduplicate(steps: Any) -> None:
    step = _step(steps, "deduplicate", _deduplicate, "drop near-duplicates, keep the largest")
    step.add_argument("--threshold", type=float, default=6.0, metavar="BITS",
                      help="0 to 32 bits out of 64, default: 6; unrelated clips differ by "
                      "about 32")  # fmt: skip
    _add_workers(step)


def _add_caption(steps: Any) -> None:
    text = "add a text to every file, from a vision-language model or from files"
    step = _step(steps, "caption", _caption, text)
    step.add_argument("--model", type=path_of, metavar="FOLDER",
                      help="vision-language model in transformers' format")  # fmt: skip
    step.add_argument("--from", type=path_of, dest="source", metavar="FILE",
                      help=".json or .csv with file_path and text, or a folder with one .txt "
                      "per file")  # fmt: skip
    step.add_argument("--prompt", help="the model's instruction; {name} is the file's name")
    step.add_argument("--frames", type=int, default=8, help="frames per file, default: 8")
    step.add_argument("--batch", type=int, default=1, help="batch size, default: 1")
    step.add_argument("--max-tokens", type=int, default=256, help="per text, default: 256")
    step.add_argument(
        "--replace", action="store_true", help="replace captions from other models or prompts"
    )
    add_device(step)
    add_dtype(step)


class _ListMeasures(argparse.Action):
    """Prints the table of measures, so that building the parser stays fast."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from ..training.preparation import MEASURES, Limit

        for name, measure in MEASURES.items():
            limit = f"{Limit(measure.low, measure.high)}"
            print(f"{name:<12} {limit:<12} {measure.meaning}")
        parser.exit()


def _scenes(arguments: argparse.Namespace) -> int:
    from ..training.preparation import Detection, Splitting, split_scenes

    with ProgressBars() as bars:
        summary = split_scenes(
            arguments.videos,
            arguments.out,
            detection=Detection(arguments.detector, arguments.threshold),
            splitting=Splitting(
                arguments.min_seconds, arguments.max_seconds, arguments.margin, arguments.crf
            ),
            list_only=arguments.list_only,
            workers=arguments.workers,
            progress=bars,
        )
    print(
        f"{counted(summary.sources, 'video')}, {counted(summary.scenes, 'scene')}, "
        f"{counted(summary.clips, 'clip')}{' (not written)' if arguments.list_only else ''}; "
        f"{counted(summary.too_short, 'scene')} too short\n{summary.list_file}"
    )
    for note in summary.notes:
        print(f"note: {note}")
    for error in summary.unreadable:
        print(f"left out: {error}")
    return 0


def _filter(arguments: argparse.Namespace) -> int:
    from ..training.preparation import Measuring, filter_files

    measuring = Measuring(
        arguments.ocr,
        arguments.clip,
        arguments.aesthetic_head,
        arguments.device,
        arguments.workers,
    )
    limits = dict(_limit(text) for text in arguments.limit)
    with ProgressBars() as bars:
        decisions = filter_files(arguments.out, limits, measuring=measuring, progress=bars)
    for name, why in decisions.off.items():
        print(f"{name} is off: {why}")
    kept = sum(not decision.reasons for decision in decisions.files)
    print(f"{kept} of {len(decisions.files)} files are kept")
    reasons = Counter(r.measure for decision in decisions.files for r in decision.reasons)
    for name, count in reasons.most_common():
        print(f"  {count} outside {name} ({decisions.limits[name]})" if name in decisions.limits
              else f"  {count} unreadable")  # fmt: skip
    for decision in decisions.files:
        for reason in decision.reasons:
            if reason.measure == "unreadable":
                print(f"left out: {decision.path}: {reason.said}")
    _print_left_out(arguments.out)
    _print_notes(decisions.notes)
    return 0


def _print_left_out(folder: Path) -> None:
    from ..training.preparation.files import left_out

    for path, why in left_out(folder).items():
        print(f"left out: {path}: {why}")


def _print_notes(notes: Mapping[str, Sequence[str]]) -> None:
    for path, said in notes.items():
        for note in said:
            print(f"note: {path}: {note}")


def _limit(text: str) -> tuple[str, Any]:
    from ..training.preparation import Limit

    name, sign, limits = text.partition("=")
    low, dots, high = limits.partition("..")
    try:
        values = [float(side) if side else None for side in (low, high)]
    except ValueError:
        dots = ""
    if not (sign and dots):
        raise InputError(f"--limit {text!r} is not MEASURE=LOW..HIGH, such as motion=0.01..0.5.")
    return name, Limit(*values)


def _deduplicate(arguments: argparse.Namespace) -> int:
    from ..training.preparation import deduplicate

    with ProgressBars() as bars:
        found = deduplicate(
            arguments.out,
            threshold=arguments.threshold,
            workers=arguments.workers,
            progress=bars,
        )
    for duplicate in found.dropped:
        print(f"{duplicate.path} duplicates {duplicate.kept} ({duplicate.distance:g} bits apart)")
    print(f"{len(found.compared) - len(found.dropped)} of {len(found.compared)} files are kept")
    return 0


def _caption(arguments: argparse.Namespace) -> int:
    from ..training.preparation import PROMPT, Captioning, caption_files, read_captions

    if (arguments.model is None) == (arguments.source is None):
        raise InputError(
            "caption needs either --model with the folder of a vision-language model, or --from "
            "with a file of captions."
        )
    if arguments.source is not None:
        summary = read_captions(arguments.out, arguments.source)
    else:
        captioning = Captioning(
            prompt=PROMPT if arguments.prompt is None else arguments.prompt,
            frames=arguments.frames,
            batch=arguments.batch,
            max_tokens=arguments.max_tokens,
            device=arguments.device,
            dtype=arguments.dtype,
        )
        with ProgressBars() as bars:
            summary = caption_files(
                arguments.out,
                arguments.model,
                captioning,
                replace=arguments.replace,
                progress=bars,
            )
    for path, why in summary.unreadable.items():
        print(f"{path} cannot be read and is left out: {why}")
    _print_left_out(arguments.out)
    for remark in summary.remarks:
        print(f"note: {remark}")
    _print_notes(summary.notes)
    print(f"{counted(summary.added, 'new caption')}; {counted(summary.without, 'file')} without")
    return 0


def _manifest(arguments: argparse.Namespace) -> int:
    from ..training.preparation import write_manifest

    with ProgressBars() as bars:
        summary = write_manifest(
            arguments.out,
            arguments.target,
            force=arguments.force,
            workers=arguments.workers,
            progress=bars,
        )
    _print_left_out(arguments.out)
    for note in summary.notes:
        print(f"note: {note}")
    with_controls = f", {summary.controls} with control video" if summary.controls else ""
    kinds = f"{counted(summary.videos, 'video')}, {counted(summary.pictures, 'image')}"
    print(f"{summary.file}: {kinds}{with_controls}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from ..training.preparation import write_report

    with ProgressBars() as bars:
        print(write_report(arguments.out, progress=bars))
    return 0
