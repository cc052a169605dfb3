"""An HTML page of what was measured, kept and dropped, with examples."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...errors import EasyAnimateError
from ...files import atomic_file, remove
from ...files.packages import require
from ...media import contact_sheet, write_png
from ...progress import Progress, silent
from .captions import captions_of
from .files import DataFile, find_files, records_of
from .filters import Measurements
from .measures import MEASURES, Limit
from .pixels import sample_frames
from .plots import plot_funnel, plot_histogram
from .results import Decisions, Duplicates, filtered, read_decisions, read_duplicates, remaining

#: Examples per reason, and frames per example.
_EXAMPLES, _FRAMES = 4, 5

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Dataset</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em }
img { max-width: 100% } table { border-collapse: collapse }
td, th { padding: 2px 12px 2px 0; text-align: left } .plots img { width: 49% }
</style>
"""


@dataclass(frozen=True)
class _State:
    """Everything shown on the page."""

    folder: Path
    files: list[DataFile]
    kept: list[DataFile]
    decisions: Decisions
    duplicates: Duplicates | None
    measurements: Measurements
    captions: dict[str, str]


def write_report(folder: Path, *, progress: Progress = silent) -> Path:
    """Write preparation/report.html and its images; returns its path.

    Raises:
        InputError: The filter step was not run, or there are new files since.
    """
    require("The report", ["matplotlib"])
    state = _state(folder)
    pictures = records_of(folder) / "report"
    for old in pictures.glob("*.png"):
        with suppress(OSError):  # one that another program has open is not on the new page
            remove(old)
    examples = _examples(state)
    progress("report", 0, len(examples))
    sections = [_summary(state, pictures), _limits(state), _histograms(state, pictures)]
    for done, (name, files) in enumerate(examples, start=1):
        sections.append(_example_section(name, files, pictures))
        progress("report", done, len(examples))
    target = records_of(folder) / "report.html"
    with atomic_file(target) as temporary:
        temporary.write_text(_HEAD + "\n".join(sections) + "</html>\n", encoding="utf-8")
    return target


def _state(folder: Path) -> _State:
    files = find_files(folder)
    decisions = read_decisions(folder)
    has_duplicates = (records_of(folder) / "duplicates.json").exists()
    return _State(
        folder,
        files,
        remaining(folder, files),
        decisions,
        read_duplicates(folder) if has_duplicates else None,
        Measurements(folder),
        captions_of(folder, files),
    )


def _funnel(state: _State) -> list[tuple[str, int]]:
    """The files left after each measure, in order; each file is counted by its first reason."""
    left = len(state.files)
    stages = [("found", left)]
    first = Counter(d.reasons[0].measure for d in state.decisions.files if d.reasons)
    for name in ("unreadable", *MEASURES):
        if first[name]:
            left -= first[name]
            stages.append((f"after {name}", left))
    if state.duplicates is not None:
        stages.append(("after duplicates", len(state.kept)))
    stages.append(("with text", sum(data.path in state.captions for data in state.kept)))
    return stages


def _summary(state: _State, pictures: Path) -> str:
    plot_funnel(pictures / "funnel.png", _funnel(state))
    seconds = sum(state.measurements.values(data).get("seconds", 0.0) for data in state.kept)
    return (
        f"<h1>{html.escape(state.folder.resolve().name)}</h1>\n"
        f"<p>{len(state.kept)} of {len(state.files)} files are kept, {seconds / 60:.1f} minutes of "
        f'video.</p>\n<img src="report/funnel.png" alt="files left after each stage">'
    )


def _limits(state: _State) -> str:
    reasons = Counter(r.measure for d in state.decisions.files for r in d.reasons)
    rows = []
    for name, measure in MEASURES.items():
        limit: object = state.decisions.limits.get(name)
        limit = f"off: {state.decisions.off[name]}" if limit is None else limit
        cells = (name, measure.meaning, str(limit), reasons[name])
        rows.append("".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells))
    head = "<tr><th>measure<th>meaning<th>limit<th>files outside"
    return f"<table>{head}\n<tr>" + "\n<tr>".join(rows) + "</table>"


def _histograms(state: _State, pictures: Path) -> str:
    kept = {data.path for data in state.kept}
    values = {data.path: state.measurements.values(data) for data in state.files}
    images = []
    for name, measure in MEASURES.items():
        inside = [v[name] for path, v in values.items() if name in v and path in kept]
        outside = [v[name] for path, v in values.items() if name in v and path not in kept]
        if inside or outside:
            limit = state.decisions.limits.get(name, Limit())
            title = f"{name}: {measure.meaning}"
            plot_histogram(pictures / f"{name}.png", title, inside, outside, limit)
            images.append(f'<img src="report/{name}.png" alt="{html.escape(title)}">')
    return '<div class="plots">' + "\n".join(images) + "</div>"


def _examples(state: _State) -> list[tuple[str, list[tuple[str, DataFile]]]]:
    """Groups of (caption or reason, file): kept ones, and dropped ones by reason."""
    by_path = {data.path: data for data in state.files}
    kept = [(state.captions.get(data.path, data.path), data) for data in state.kept]
    groups = {"kept": kept}
    for decision in state.decisions.files:
        for reason in decision.reasons:
            said = f"{decision.path}: {reason.said}"
            groups.setdefault(reason.measure, []).append((said, by_path[decision.path]))
    left = {data.path for data in filtered(state.folder, state.files)}
    for dropped in state.duplicates.dropped if state.duplicates else ():
        if dropped.path in left:
            said = f"{dropped.path}: like {dropped.kept}, {dropped.distance:g} bits apart"
            groups.setdefault("duplicates", []).append((said, by_path[dropped.path]))
    return [(name, _spread(group)) for name, group in groups.items() if group]


def _spread(group: list[tuple[str, DataFile]]) -> list[tuple[str, DataFile]]:
    count = min(_EXAMPLES, len(group))
    return [group[i * len(group) // count] for i in range(count)]


def _example_section(name: str, examples: Sequence[tuple[str, DataFile]], pictures: Path) -> str:
    title = "Kept" if name == "kept" else f"Dropped: {name}"
    rows = []
    for said, data in examples:
        try:
            frames = sample_frames(data, _FRAMES)
        except EasyAnimateError:
            continue  # the list below says why
        pixels = torch.from_numpy(np.stack(frames)).to(torch.float32).div_(255)
        rows.append((_latin(said), pixels))
    section = f"<h2>{html.escape(title)}</h2>\n"
    if rows:
        write_png(pictures / f"example_{name}.png", contact_sheet(rows, columns=_FRAMES)[0])
        section += f'<img src="report/example_{name}.png" alt="{html.escape(title)}">\n'
    said_of = "".join(f"<li>{html.escape(said)}</li>\n" for said, _ in examples)
    return f"{section}<ul>\n{said_of}</ul>"


def _latin(text: str) -> str:
    """The part that the contact sheet's font can draw; the page itself has the full text."""
    short = text if len(text) <= 160 else text[:157] + "..."
    return re.sub(r"[^\x20-\x7e]+", "?", short)
