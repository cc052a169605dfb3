"""Compares two reports on the same videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, MediaError
from ..files import (
    DATASET_BYTES,
    TEXT,
    Result,
    Rule,
    Together,
    check_fields,
    check_results,
    read_json,
)
from ..files.kinds import json_with
from ..media import write_json
from .catalogue import metric
from .page import (
    page,
    page_results,
    picture,
    picture_results,
    table,
    write_differences,
    write_page,
)
from .statistics import Spread


@dataclass(frozen=True)
class Difference:
    """One metric over the videos for which both reports have it.

    `change` is B minus A per video. `wins_b` and `wins_a` count the videos where B or A is better;
    `p` is the p-value of the sign test. These are None for a metric without a better direction.
    """

    name: str
    a: Spread
    b: Spread
    change: Spread
    wins_a: int | None
    wins_b: int | None
    ties: int
    p: float | None


@dataclass(frozen=True)
class Comparison:
    """`differences` per metric, and the underlying `changes` of every video."""

    names: tuple[str, str]
    videos: tuple[str, ...]
    differences: tuple[Difference, ...]
    changes: dict[str, dict[str, float]]


def compare_reports(a: Path, b: Path) -> Comparison:
    """Compare two report.json (or their folders) from `evaluate` or from `evaluate-meaning`.

    Raises `InputError` if they have no video in common or are of different kinds, and `MediaError`
    if one cannot be read.
    """
    report_a, report_b = _read(a), _read(b)
    if report_a["kind"] != report_b["kind"]:
        raise InputError(
            f"{a} is a report on {report_a['kind']}, but {b} is one on {report_b['kind']}; compare "
            "two reports of the same command."
        )
    videos_a, videos_b = report_a["videos"], report_b["videos"]
    common = [name for name in videos_a if name in videos_b]
    if not common:
        raise InputError(
            f"{a} and {b} have no video in common ({len(videos_a)} and {len(videos_b)} videos); "
            "videos are matched by name."
        )
    names = dict.fromkeys(name for video in common for name in videos_a[video])
    changes: dict[str, dict[str, float]] = {}
    differences = []
    for name in names:
        pairs = {
            video: (float(videos_a[video][name]), float(videos_b[video][name]))
            for video in common
            if name in videos_a[video] and name in videos_b[video]
        }
        if pairs:
            differences.append(_difference(name, list(pairs.values())))
            changes[name] = {video: second - first for video, (first, second) in pairs.items()}
    return Comparison((str(a), str(b)), tuple(common), tuple(differences), changes)


def check_comparison(folder: Path, reports: Sequence[Path], *, force: bool) -> None:
    """Raise unless `write_comparison` can write; see `check_results`."""
    is_one = json_with("names", "videos", "differences", "changes")
    results = [
        Result(folder / "compare.json", "comparison", is_one),
        *page_results(folder, "compare.html"),
        *picture_results(folder, "differences.png"),
    ]
    check_results(results, sources=reports, force=force)


def write_comparison(folder: Path, comparison: Comparison) -> list[Path]:
    """Write compare.json and compare.html with its plot; returns both paths."""
    values = {
        metric(name).title: (metric(name).better, list(listed.values()))
        for name, listed in comparison.changes.items()
    }
    with Together() as together:
        plot = together.write(write_differences, folder / "differences.png", values)
        text = page("Two runs compared", _parts(comparison, plot.name))
        return [
            together.write(write_json, folder / "compare.json", asdict(comparison)),
            together.write(write_page, folder / "compare.html", text),
        ]


def _parts(comparison: Comparison, plot: str) -> list[str]:
    return [
        table(["", "report"], [["A", comparison.names[0]], ["B", comparison.names[1]]]),
        f"<p>{len(comparison.videos)} videos in common.</p>",
        table(["", "videos", "A", "B", "B - A", "A better", "B better", "equal", "p"],
              [_cells(difference) for difference in comparison.differences]),
        picture(plot, "Each video: blue if B is better, red if A is"),
    ]  # fmt: skip


def comparison_lines(comparison: Comparison) -> list[str]:
    """The table as lines of text."""
    lines = [f"{len(comparison.videos)} videos in common"]
    for difference in comparison.differences:
        title, _, a, b, change, wins_a, wins_b, _, p = _cells(difference)
        won = f"; better: A {wins_a}, B {wins_b} (p {p})" if wins_a else ""
        lines.append(f"{title:<34} A {a}, B {b}, B - A {change}{won}")
    return lines


def _difference(name: str, pairs: list[tuple[float, float]]) -> Difference:
    from scipy.stats import binomtest

    changes = [second - first for first, second in pairs]
    better, ties = metric(name).better, sum(change == 0 for change in changes)
    wins_a = wins_b = p = None
    if better:
        wins_b = sum(change * better > 0 for change in changes)
        wins_a = len(changes) - ties - wins_b
        p = float(binomtest(wins_b, wins_a + wins_b).pvalue) if wins_a + wins_b else 1.0
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    return Difference(
        name, Spread.of(firsts), Spread.of(seconds), Spread.of(changes), wins_a, wins_b, ties, p
    )


def _cells(difference: Difference) -> list[str]:
    wins = ["" if won is None else str(won) for won in (difference.wins_a, difference.wins_b)]
    p = "" if difference.p is None else f"{difference.p:.2g}"
    means = [f"{spread.mean:.4g}" for spread in (difference.a, difference.b)]
    return [
        metric(difference.name).title,
        str(difference.change.count),
        *means,
        str(difference.change),
        *wins,
        str(difference.ties),
        p,
    ]


def _read(path: Path) -> dict[str, Any]:
    file = path / "report.json" if path.is_dir() else path
    report = read_json(file, object, error=MediaError, limit=DATASET_BYTES, finite=False)
    if not isinstance(report, dict) or not {"kind", "videos"} <= set(report):
        raise InputError(f"{file} is not a report of evaluate or evaluate-meaning; name one.")
    check_fields(report, _RULES, f"The report {file}", InputError)
    return report


_NUMBERS = Rule(
    "an object of numbers by metric",
    lambda row: isinstance(row, dict) and all(type(v) in (int, float, bool) for v in row.values()),
)
_RULES = {
    "kind": TEXT,
    "videos": Rule(
        "an object of numbers by metric, by video",
        lambda videos: isinstance(videos, dict) and all(map(_NUMBERS.allows, videos.values())),
    ),
}
