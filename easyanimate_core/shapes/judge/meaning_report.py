"""Summarizes the judgements of many clips: shares, confusion tables, and images of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import InputError
from ...evaluation.page import picture_results
from ...evaluation.statistics import Share, Spread
from ...files import Result, Together, atomic_file, check_results
from ...files.kinds import json_with
from ...media import contact_sheet, write_json, write_png
from ..scenes import CAMERAS, COLOURS, SHAPES, TINTS, caption
from ..scenes.scene import CHANGES, DIRECTIONS
from .meaning import TASKS, Labels, Sample, Verdict, clip_of, judge, same_labels
from .tracking import TURN_BACK

#: Labels of the confusion tables: requested ones, and with "none" or "still" detected ones.
_WORDS = {
    "colour": (*COLOURS, "none"),
    "shape": (*SHAPES, "none"),
    "motion": (*DIRECTIONS, *CHANGES, *CAMERAS[1:], TURN_BACK, "still", "none"),
    "size": ("small", "large", "none"),
    "tint": tuple(TINTS),
}

#: Rows of the contact sheet of a task.
_SHEET_ROWS = 12


@dataclass(frozen=True)
class Confusion:
    """How often each label was requested (row) and detected (column): `counts[row][column]`."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, name: str, verdicts: Sequence[Verdict]) -> Confusion:
        """The table of one field of `Labels`."""
        labels = _WORDS[name]
        counts = np.zeros((len(labels), len(labels)), int)
        for verdict in verdicts:
            row, column = (
                labels.index(getattr(said, name)) for said in (verdict.asked, verdict.seen)
            )
            counts[row, column] += 1
        return cls(labels, tuple(tuple(row) for row in counts.tolist()))


@dataclass(frozen=True)
class TaskReport:
    """The summary of one task.

    Args:
        task: One of `TASKS`.
        clips: Number of clips.
        shares: Check -> how often it passes; see `Verdict.checks`.
        chance: The same for colour, shape, motion and "all" three, with every clip judged by
            another clip's scene: the chance level.
        measures: Measure -> statistics over the clips that have it.
        confusion: Tables for "colour", "shape", "motion", "size" and "tint".
        confidence: Statistics over the detected main bodies.
    """

    task: str
    clips: int
    shares: dict[str, Share]
    chance: dict[str, Share]
    measures: dict[str, Spread]
    confusion: dict[str, Confusion]
    confidence: Spread

    @classmethod
    def of(cls, task: str, verdicts: Sequence[Verdict], *, seed: int) -> TaskReport:
        """Summarize verdicts; `InputError` without any. The seed is for the chance level."""
        if not verdicts:
            raise InputError(
                f"There are no clips of the task {task!r} to report; judge at least 1."
            )
        numbers = {name for verdict in verdicts for name in verdict.measures}
        return cls(
            task=task,
            clips=len(verdicts),
            shares={
                name: Share.of(verdict.checks[name] for verdict in verdicts)
                for name in verdicts[0].checks
            },
            chance=_chance(verdicts, seed) if len(verdicts) > 1 else {},
            measures={
                name: Spread.of([v.measures[name] for v in verdicts if name in v.measures])
                for name in sorted(numbers)
            },
            confusion={name: Confusion.of(name, verdicts) for name in _WORDS},
            confidence=Spread.of([verdict.confidence for verdict in verdicts]),
        )


@dataclass(frozen=True)
class JudgedClip:
    """A clip's `name` (task/seed-index), its scene's `caption`, and the verdict."""

    name: str
    caption: str
    verdict: Verdict

    def numbers(self) -> dict[str, float]:
        """Checks as 1 and 0, and measures."""
        checks = {name: float(holds) for name, holds in self.verdict.checks.items()}
        return checks | self.verdict.measures


@dataclass(frozen=True)
class MeaningReport:
    """Reports by task, the underlying verdicts, and the first clips of each task to look at."""

    tasks: tuple[TaskReport, ...]
    clips: dict[str, tuple[JudgedClip, ...]]
    shown: dict[str, tuple[Sample, ...]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        tasks = []
        for report in self.tasks:
            value = asdict(report)
            for kind in ("shares", "chance"):
                for name, share in getattr(report, kind).items():
                    value[kind][name]["value"] = share.value
            tasks.append(value)
        clips = [clip for listed in self.clips.values() for clip in listed]
        return {
            "tasks": tasks,
            "videos": {clip.name: clip.numbers() for clip in clips},
            "clips": [asdict(clip) for clip in clips],
        }

    def table(self) -> str:
        """The shares as lines of text."""
        lines = []
        for report in self.tasks:
            lines.append(f"{report.task}: {report.clips} clips")
            for name, share in report.shares.items():
                by_chance = report.chance.get(name)
                beside = "" if by_chance is None else f"; by chance {100 * by_chance.value:.0f} %"
                lines.append(f"  {name:<18} {share}{beside}")
            lines += [f"  {name:<34} {spread}" for name, spread in report.measures.items()]
        return "\n".join(lines)


def judge_all(samples: Iterable[Sample], *, seed: int = 0) -> MeaningReport:
    """Judge clips one by one; the seed is for the chance level.

    Raises `InputError` if there are none.
    """
    clips: dict[str, list[JudgedClip]] = {}
    shown: dict[str, list[Sample]] = {}
    for sample in samples:
        scene, kept = sample.scene, shown.setdefault(sample.task, [])
        name = f"{sample.task}/{scene.seed}-{scene.index:04d}"
        judged = JudgedClip(name, caption(scene), judge(sample))
        clips.setdefault(sample.task, []).append(judged)
        if len(kept) < _SHEET_ROWS:
            kept.append(sample)
    if not clips:
        raise InputError("There are no clips to judge; give at least one.")
    tasks = [task for task in TASKS if task in clips]
    return MeaningReport(
        tuple(TaskReport.of(task, [c.verdict for c in clips[task]], seed=seed) for task in tasks),
        {task: tuple(clips[task]) for task in tasks},
        {task: tuple(shown[task]) for task in tasks},
    )


def check_meaning(folder: Path, tasks: Iterable[str], *, force: bool) -> None:
    """Raise unless `write_meaning` can write; see `check_results`."""
    is_one = json_with("kind", "run", "tasks")
    results = [Result(folder / "report.json", "report of evaluate-meaning", is_one)]
    for task in tasks:
        results += picture_results(folder, f"confusion_{task}.png", f"sheet_{task}.png")
    check_results(results, force=force)


def write_meaning(folder: Path, report: MeaningReport, run: Mapping[str, Any]) -> list[Path]:
    """Write report.json, and for each task an image of the confusion tables and a contact sheet.

    `run` describes how the clips were made, for readers of report.json. Existing files are
    replaced.
    """
    value = {"kind": "meaning", "run": dict(run), **report.to_json()}
    with Together() as together:
        files = [together.write(write_json, folder / "report.json", value)]
        for task in report.tasks:
            picture = folder / f"confusion_{task.task}.png"
            files.append(together.write(_draw_confusion, picture, task))
            verdicts = [clip.verdict for clip in report.clips[task.task]]
            sheet = asked_and_made(report.shown[task.task], verdicts)
            files.append(together.write(write_png, folder / f"sheet_{task.task}.png", sheet))
    return files


def asked_and_made(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> Tensor:
    """A contact sheet [1, H, W, 3] with each requested scene above the generated clip."""
    rows = []
    for sample, verdict in zip(samples, verdicts, strict=False):
        seen = verdict.seen
        wrong = [name for name, holds in verdict.checks.items() if not holds and name != "all"]
        said = f"{seen.size} {seen.colour} {seen.shape}, {seen.motion}, on {seen.tint}"
        rows.append((f"Asked: {caption(sample.scene)}", clip_of(sample.scene)))
        rows.append(
            (f"Made: {said}" + (f" (not: {', '.join(wrong)})" if wrong else ""), sample.frames)
        )
    return contact_sheet(rows, columns=6, cell_width=112)


def _chance(verdicts: Sequence[Verdict], seed: int) -> dict[str, Share]:
    """Judge every clip by the scene of another."""
    order = np.random.default_rng(seed).permutation(len(verdicts))
    asked: list[Labels] = [verdicts[index].asked for index in order]
    seen = [verdicts[index].seen for index in order]
    shift = max(1, len(order) // 2)
    same = [
        same_labels(asked[(index + shift) % len(order)], seen[index]) for index in range(len(order))
    ]
    checks = {name: Share.of(answers[name] for answers in same) for name in same[0]}
    return checks | {"all": Share.of(all(answers.values()) for answers in same)}


def _draw_confusion(file: Path, report: TaskReport) -> Path:
    """Draw three tables side by side: rows are requested, columns detected labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(21, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{report.task}: {report.clips} clips (rows: asked, columns: seen)")
    for axes, name in zip(figure.subplots(1, 3), ("colour", "shape", "motion"), strict=True):
        table = report.confusion[name]
        counts = np.array(table.counts)
        rows = [index for index, row in enumerate(counts) if row.any()]
        shares = counts[rows] / counts[rows].sum(1, keepdims=True)
        axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        axes.set_title(f"{name}: {report.shares[name]}")
        axes.set_xticks(range(len(table.labels)), table.labels, rotation=60, ha="right")
        axes.set_yticks(range(len(rows)), [table.labels[index] for index in rows])
        for y, index in enumerate(rows):
            for x, count in enumerate(counts[index]):
                if count:
                    shade = "white" if shares[y, x] > 0.5 else "black"
                    axes.text(x, y, str(count), ha="center", va="center", color=shade)
    with atomic_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
    return file
