"""HTML reports: tables, plots, and strips of frames as images next to the page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import Result, atomic_file
from ..files.kinds import is_html, is_png
from ..media import resize_cover, write_png

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
       color: #1d2026; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #d8dce3; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
"""

_STRIP_HEIGHT = 112
_HISTOGRAM_COLUMNS = 3
_BARS = {1: "#3b7dd8", 0: "#8a919e", -1: "#c4473a"}


def page(title: str, parts: Sequence[str]) -> str:
    """An HTML page from parts that are already HTML."""
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return f"<!doctype html>\n<html><head>{head}</head><body>\n{body}\n</body></html>\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table from plain text."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(
        ["<table>", line(header, "th"), *(line(row, "td") for row in rows), "</table>"]
    )


def picture(file: str, text: str) -> str:
    """An HTML figure for an image next to the page."""
    return f"<figure><img src='{html.escape(file)}' alt='{html.escape(text)}'><figcaption>" + (
        f"{html.escape(text)}</figcaption></figure>"
    )


def write_page(file: Path, text: str) -> Path:
    """Write a page atomically; returns the file."""
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def page_results(folder: Path, *pages: str) -> list[Result]:
    """The pages of a report, for `check_results`."""
    return [Result(folder / name, "page", is_html) for name in pages]


def picture_results(folder: Path, *names: str) -> list[Result]:
    """The images of a report, for `check_results`."""
    return [Result(folder / name, "PNG picture", is_png) for name in names]


def write_strip(file: Path, frames_FHWC: Tensor) -> Path:
    """Write the first, middle and last frame side by side."""
    height, width = frames_FHWC.shape[1:3]
    places = [0, len(frames_FHWC) // 2, len(frames_FHWC) - 1]
    shown = resize_cover(
        frames_FHWC[places].float(), _STRIP_HEIGHT, round(width * _STRIP_HEIGHT / height)
    )
    return write_png(file, torch.cat(list(shown), dim=1).clamp(0, 1))


def write_histograms(file: Path, values: Mapping[str, Sequence[float]]) -> Path:
    """Write one histogram per title."""
    rows = -(-len(values) // _HISTOGRAM_COLUMNS)
    figure = _figure(4.2 * _HISTOGRAM_COLUMNS, 3 * rows)
    for number, (title, listed) in enumerate(values.items(), start=1):
        axes = figure.add_subplot(rows, _HISTOGRAM_COLUMNS, number)
        axes.hist(list(listed), bins=min(20, max(5, len(listed))), color=_BARS[1])
        axes.set_title(title)
        axes.set_ylabel("videos")
    return _save(file, figure)


def write_differences(file: Path, differences: Mapping[str, tuple[int, Sequence[float]]]) -> Path:
    """Write a bar chart per title with the sorted differences of all videos.

    Each has 1 if higher is better, -1 if lower is, 0 if neither: bars are blue if B is better, red
    if A is.
    """
    rows = -(-len(differences) // _HISTOGRAM_COLUMNS)
    figure = _figure(4.2 * _HISTOGRAM_COLUMNS, 3 * rows)
    for number, (title, (better, listed)) in enumerate(differences.items(), start=1):
        axes = figure.add_subplot(rows, _HISTOGRAM_COLUMNS, number)
        bars = sorted(listed)
        colours = [_BARS[(bar * better > 0) - (bar * better < 0)] for bar in bars]
        axes.bar(range(len(bars)), bars, color=colours)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(f"{title}: B - A")
        axes.set_xlabel("videos")
        axes.set_xticks([])
    return _save(file, figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, max(height, 2)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(file: Path, figure: Any) -> Path:
    with atomic_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
    return file
