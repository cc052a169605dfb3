"""Plots of a dataset, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...files import atomic_file
from .measures import Limit

_KEPT, _DROPPED, _LIMIT = "#3b7dd8", "#c9ced8", "#d0453b"


def plot_histogram(
    target: Path, title: str, kept: Sequence[float], dropped: Sequence[float], limit: Limit
) -> Path:
    """Plot the distribution of a measure over kept and dropped files, with its limits."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.hist([kept, dropped], bins=30, stacked=True, color=[_KEPT, _DROPPED],
              label=["kept", "dropped"])  # fmt: skip
    for value in (limit.low, limit.high):
        if value is not None:
            axes.axvline(value, color=_LIMIT, linewidth=1.5)
    axes.set_title(title, fontsize=9)
    axes.set_ylabel("files", fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7)
    with atomic_file(target) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return target


def plot_funnel(target: Path, stages: Sequence[tuple[str, int]]) -> Path:
    """Plot how many files are left after each stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.5 + 0.32 * len(stages)), layout="constrained")
    axes = figure.add_subplot()
    names, counts = [name for name, _ in stages], [count for _, count in stages]
    bars = axes.barh(names, counts, color=_KEPT)
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("files", fontsize=8)
    with atomic_file(target) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return target
