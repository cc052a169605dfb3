"""Summarizes the judgements of many clips: shares, confusion tables, and images of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import InputError, counted
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
class SeedReport:
    """The clips of one list of scenes: shares, and means of measures, as in `TaskReport`."""

    seed: int
    clips: int
    shares: dict[str, Share]
    means: dict[str, float]

    @classmethod
    def of(cls, seed: int, verdicts: Sequence[Verdict]) -> SeedReport:
        """Summarize the verdicts of a list."""
        means = {name: spread.mean for name, spread in _measures(verdicts).items()}
        return cls(seed, len(verdicts), _shares(verdicts), means)


@dataclass(frozen=True)
class TaskReport:
    """The summary of one task.

    Args:
        task: One of `TASKS`.
        clips: Number of clips.
        shares: Check -> how often it passes; see `Verdict.checks`. "direction" is motion where the
            main body moves left, right, up or down.
        chance: The same for colour, shape, motion and "all" three, with every clip judged by
            another clip's scene: the chance level.
        measures: Measure -> statistics over the clips that have it.
        confusion: Tables for "colour", "shape", "motion", "size" and "tint".
        confidence: Statistics over the detected main bodies.
        seeds: The same by list of scenes.
        over_seeds: Share or measure -> statistics over the lists that have it, if there are
            several.
    """

    task: str
    clips: int
    shares: dict[str, Share]
    chance: dict[str, Share]
    measures: dict[str, Spread]
    confusion: dict[str, Confusion]
    confidence: Spread
    seeds: tuple[SeedReport, ...]
    over_seeds: dict[str, Spread]

    @classmethod
    def of(cls, task: str, clips: Sequence[JudgedClip], *, seed: int) -> TaskReport:
        """Summarize clips; `InputError` without any. The seed is for the chance level."""
        if not clips:
            raise InputError(
                f"There are no clips of the task {task!r} to report; judge at least 1."
            )
        verdicts = [clip.verdict for clip in clips]
        lists: dict[int, list[Verdict]] = {}
        for clip in clips:
            lists.setdefault(clip.seed, []).append(clip.verdict)
        seeds = tuple(SeedReport.of(own, listed) for own, listed in lists.items())
        return cls(
            task=task,
            clips=len(verdicts),
            shares=_shares(verdicts),
            chance=_chance(verdicts, seed) if len(verdicts) > 1 else {},
            measures=_measures(verdicts),
            confusion={name: Confusion.of(name, verdicts) for name in _WORDS},
            confidence=Spread.of([verdict.confidence for verdict in verdicts]),
            seeds=seeds,
            over_seeds=_over_seeds(seeds),
        )

    def lines(self) -> list[str]:
        """The shares and measures as lines of text, with their values by list of scenes."""
        lines = [f"{self.task}: {counted(self.clips, 'clip')}"]
        for name, share in self.shares.items():
            by_chance = self.chance.get(name)
            beside = "" if by_chance is None else f"; by chance {100 * by_chance.value:.0f} %"
            lines.append(f"  {name:<18} {share}{beside}{self._by_seed(name)}")
        for name, spread in self.measures.items():
            lines.append(f"  {name:<34} {spread}{self._by_seed(name)}")
        return lines

    def _by_seed(self, name: str) -> str:
        """A share's or measure's mean over several lists, and the least and most of them."""
        over = self.over_seeds.get(name)
        if over is None:
            return ""
        if name not in self.shares:
            return f"; {over.count} seeds {over.least:.4g} to {over.most:.4g}"
        least, most, error = (100 * value for value in (over.least, over.most, over.error))
        return f"; {over.count} seeds {least:.0f} to {most:.0f} %, standard error {error:.1f}"


@dataclass(frozen=True)
class JudgedClip:
    """A clip's `name` (task/seed-index), its list's `seed`, its scene's `caption`, the verdict."""

    name: str
    seed: int
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
        clips = [clip for listed in self.clips.values() for clip in listed]
        return {
            "tasks": [_task_to_json(report) for report in self.tasks],
            "videos": {clip.name: clip.numbers() for clip in clips},
            "clips": [asdict(clip) for clip in clips],
        }

    def table(self) -> str:
        """The shares as lines of text."""
        return "\n".join(line for report in self.tasks for line in report.lines())


def judge_all(samples: Iterable[Sample], *, seed: int = 0) -> MeaningReport:
    """Judge clips one by one; the seed is for the chance level.

    Raises `InputError` if there are none.
    """
    clips: dict[str, list[JudgedClip]] = {}
    shown: dict[str, list[Sample]] = {}
    for sample in samples:
        scene, kept = sample.scene, shown.setdefault(sample.task, [])
        name = f"{sample.task}/{scene.seed}-{scene.index:04d}"
        judged = JudgedClip(name, scene.seed, caption(scene), judge(sample))
        clips.setdefault(sample.task, []).append(judged)
        if len(kept) < _SHEET_ROWS:
            kept.append(sample)
    if not clips:
        raise InputError("There are no clips to judge; give at least one.")
    tasks = [task for task in TASKS if task in clips]
    return MeaningReport(
        tuple(TaskReport.of(task, clips[task], seed=seed) for task in tasks),
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
    """Write for each task an image of the confusion tables and a contact sheet, then report.json.

    `run` describes how the clips were made, for readers of report.json. Existing files are
    replaced.
    """
    value = {"kind": "meaning", "run": dict(run), **report.to_json()}
    with Together() as together:
        files = []
        for task in report.tasks:
            picture = folder / f"confusion_{task.task}.png"
            files.append(together.write(_draw_confusion, picture, task))
            verdicts = [clip.verdict for clip in report.clips[task.task]]
            sheet = asked_and_made(report.shown[task.task], verdicts)
            files.append(together.write(write_png, folder / f"sheet_{task.task}.png", sheet))
        files.append(together.write(write_json, folder / "report.json", value))
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


def _shares(verdicts: Sequence[Verdict]) -> dict[str, Share]:
    checks = {
        name: Share.of(verdict.checks[name] for verdict in verdicts) for name in verdicts[0].checks
    }
    moved = [v.checks["motion"] for v in verdicts if v.asked.motion in DIRECTIONS]
    return checks | ({"direction": Share.of(moved)} if moved else {})


def _measures(verdicts: Sequence[Verdict]) -> dict[str, Spread]:
    numbers = {name for verdict in verdicts for name in verdict.measures}
    return {
        name: Spread.of([v.measures[name] for v in verdicts if name in v.measures])
        for name in sorted(numbers)
    }


def _over_seeds(seeds: Sequence[SeedReport]) -> dict[str, Spread]:
    if len(seeds) < 2:
        return {}
    values: dict[str, list[float]] = {}
    for of_seed in seeds:
        shares = {name: share.value for name, share in of_seed.shares.items()}
        for name, value in (shares | of_seed.means).items():
            values.setdefault(name, []).append(value)
    return {name: Spread.of(listed) for name, listed in values.items()}


def _task_to_json(report: TaskReport) -> dict[str, Any]:
    """The report with what it computes: shares, and standard errors."""
    value = asdict(report)
    shares = [(value["shares"], report.shares), (value["chance"], report.chance)]
    shares += [
        (written["shares"], of_seed.shares)
        for written, of_seed in zip(value["seeds"], report.seeds, strict=True)
    ]
    for written, own in shares:
        for name, share in own.items():
            written[name]["value"] = share.value
    for name, spread in report.over_seeds.items():
        value["over_seeds"][name]["standard_error"] = spread.error
    return value


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


def _seeds_below(report: TaskReport, name: str) -> str:
    """A second line of a title: the share in every list of scenes, if there are several."""
    over = report.over_seeds.get(name)
    if over is None:
        return ""
    shares = ", ".join(f"{100 * own.shares[name].value:.0f}" for own in report.seeds)
    return f"\n{shares} %; standard error {100 * over.error:.1f}"


def _draw_confusion(file: Path, report: TaskReport) -> Path:
    """Draw three tables side by side: rows are requested, columns detected labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(21, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    title = f"{report.task}: {counted(report.clips, 'clip')} (rows: asked, columns: seen)"
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, 3), ("colour", "shape", "motion"), strict=True):
        table = report.confusion[name]
        counts = np.array(table.counts)
        rows = [index for index, row in enumerate(counts) if row.any()]
        shares = counts[rows] / counts[rows].sum(1, keepdims=True)
        axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        axes.set_title(f"{name}: {report.shares[name]}{_seeds_below(report, name)}")
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
