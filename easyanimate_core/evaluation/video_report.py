"""The report of `evaluate`: JSON for programs, HTML with tables, plots and strips for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import Result, Together, check_results
from ..files.kinds import json_with
from ..media import write_json
from .catalogue import metric
from .page import (
    page,
    page_results,
    picture,
    picture_results,
    table,
    write_histograms,
    write_page,
    write_strip,
)
from .videos import VideoReport, VideoSet, read_clip


def check_videos_report(folder: Path, found: VideoSet, *, force: bool) -> None:
    """Raise unless `write_videos` can write; see `check_results`."""
    strips = (f"strips/{number:05d}.png" for number in range(len(found.videos)))
    results = [
        Result(folder / "report.json", "report of evaluate", json_with("kind", "run", "videos")),
        *page_results(folder, "report.html"),
        *picture_results(folder, "histograms.png", *strips),
    ]
    check_results(
        results, sources=[*found.videos.values(), *found.references.values()], force=force
    )


def write_videos(
    folder: Path, report: VideoReport, found: VideoSet, run: Mapping[str, Any]
) -> list[Path]:
    """Write report.json and report.html, with images next to them; returns both paths.

    `run` describes what was measured, for readers of report.json.
    """
    with Together() as together:
        text = page("Videos measured", _parts(folder, report, found, together))
        value = {"run": dict(run), **report.to_json()}
        return [
            together.write(write_json, folder / "report.json", value),
            together.write(write_page, folder / "report.html", text),
        ]


def _parts(folder: Path, report: VideoReport, found: VideoSet, together: Together) -> list[str]:
    """The parts of the page, after writing their images."""
    shown = []
    measured = {name: file for name, file in found.videos.items() if name in report.videos}
    for number, (name, file) in enumerate(measured.items()):
        frames = read_clip(file).frames
        strip = together.write(write_strip, folder / "strips" / f"{number:05d}.png", frames)
        shown.append(picture(f"strips/{strip.name}", name))
    parts = ["<h2>All videos</h2>", _summary(report)]
    if report.spreads:
        values = {
            metric(name).title: [row[name] for row in report.videos.values() if name in row]
            for name in report.spreads
        }
        histograms = together.write(write_histograms, folder / "histograms.png", values)
        parts.append(picture(histograms.name, "Distribution over the videos"))
    if report.unreadable:
        rows = [[name, why] for name, why in report.unreadable.items()]
        parts += ["<h2>Skipped</h2>", table(["", "reason"], rows)]
    return [
        *parts,
        "<h2>Each video</h2>",
        _rows(report),
        "<h2>First, middle and last frame</h2>",
        *shown,
    ]


def summary_lines(report: VideoReport) -> list[str]:
    """The means as lines of text."""
    lines = [f"{metric(name).title:<32} {spread}" for name, spread in report.spreads.items()]
    if report.fvd is not None:
        lines.append(f"{'FVD':<32} {report.fvd:.4g}")
    if report.unreadable:
        lines.append(f"{len(report.unreadable)} cannot be read and are skipped:")
        lines += [f"  {name}: {why}" for name, why in report.unreadable.items()]
    lines += [f"note: {name}: {note}" for name, notes in report.notes.items() for note in notes]
    return lines


def _summary(report: VideoReport) -> str:
    keys = ("mean", "deviation", "least", "median", "most")
    rows = [
        [metric(name).title, str(spread.count), *(f"{getattr(spread, key):.4g}" for key in keys)]
        for name, spread in report.spreads.items()
    ]
    if report.fvd is not None:
        rows.append(["FVD", str(len(report.videos)), f"{report.fvd:.4g}", "", "", "", ""])
    return table(["", "videos", *keys], rows)


def _rows(report: VideoReport) -> str:
    names = list(report.spreads)
    rows = [
        [video, *(f"{numbers[name]:.4g}" if name in numbers else "" for name in names)]
        for video, numbers in report.videos.items()
    ]
    return table(["", *(metric(name).title for name in names)], rows)
