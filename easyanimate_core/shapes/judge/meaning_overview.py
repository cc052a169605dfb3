"""One table of several reports: checkpoints, schedulers and numbers of steps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...evaluation.page import write_page
from ...evaluation.statistics import Share
from ...files import Result, Together, check_results
from ...files.kinds import json_with, text_with
from ...media import write_json
from .meaning_report import MeaningReport, TaskReport

_HEADER = ("checkpoint", "scheduler", "steps", "task", "evaluations", "clips")
#: Shares with a column of their own; others are named in the last one.
_COLUMNS = ("colour", "shape", "motion", "direction", "all")
#: Measures in the last column, and their names there.
_MEASURES = {
    "edge_f1": "edge F1",
    "first_below_reconstruction_db": "first frame, dB below",
    "last_below_reconstruction_db": "last frame, dB below",
    "outside_below_reconstruction_db": "outside, dB below",
}


@dataclass(frozen=True)
class Judged:
    """A report, and how its clips were made: evaluations of the denoiser per clip by task."""

    checkpoint: str
    scheduler: str
    steps: int
    evaluations: dict[str, int]
    report: MeaningReport


def overview(judged: Sequence[Judged]) -> str:
    """A Markdown table with a row for each report and task.

    Shares are in %; with several lists of scenes, ± is the standard error of their mean.
    """
    header = [*_HEADER, *_COLUMNS, "more"]
    rows = [header, ["---"] * len(header)]
    rows += [_cells(one, task) for one in judged for task in one.report.tasks]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def check_overview(folder: Path, *, force: bool) -> None:
    """Raise unless `write_overview` can write; see `check_results`."""
    starts = text_with(f"| {' | '.join(_HEADER)} |")
    results = [
        Result(folder / "overview.md", "overview of evaluate-meaning", starts),
        Result(folder / "overview.json", "overview of evaluate-meaning", json_with("kind", "rows")),
    ]
    check_results(results, force=force)


def write_overview(folder: Path, judged: Sequence[Judged]) -> list[Path]:
    """Write the table as overview.md, and its numbers as overview.json; replaces earlier ones."""
    rows = [_row(one, task) for one in judged for task in one.report.tasks]
    with Together() as together:
        return [
            together.write(write_page, folder / "overview.md", overview(judged) + "\n"),
            together.write(
                write_json, folder / "overview.json", {"kind": "meaning overview", "rows": rows}
            ),
        ]


def _cells(one: Judged, task: TaskReport) -> list[str]:
    first = [one.checkpoint, one.scheduler, one.steps, task.task]
    first += [one.evaluations[task.task], task.clips]
    shares = [_share(task, name) for name in _COLUMNS]
    more = [
        f"{name.replace('_', ' ')} {_share(task, name)}"
        for name in task.shares
        if name not in (*_COLUMNS, "size", "tint")
    ]
    more += [
        f"{title} {task.measures[name].mean:.2f}"
        for name, title in _MEASURES.items()
        if name in task.measures
    ]
    return [*map(str, first), *shares, "; ".join(more)]


def _share(task: TaskReport, name: str) -> str:
    share: Share | None = task.shares.get(name)
    if share is None:
        return ""
    over = task.over_seeds.get(name)
    error = "" if over is None else f" ± {100 * over.error:.1f}"
    return f"{100 * share.value:.0f}{error} %"


def _row(one: Judged, task: TaskReport) -> dict[str, Any]:
    return {
        "checkpoint": one.checkpoint,
        "scheduler": one.scheduler,
        "steps": one.steps,
        "task": task.task,
        "evaluations_per_clip": one.evaluations[task.task],
        "clips": task.clips,
        "shares": {name: share.value for name, share in task.shares.items()},
        "measures": {name: spread.mean for name, spread in task.measures.items()},
        "over_seeds": {
            name: asdict(spread) | {"standard_error": spread.error}
            for name, spread in task.over_seeds.items()
        },
    }
