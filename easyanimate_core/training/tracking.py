"""A run's metrics: a line per logged step in log.jsonl, an image of curves, the terminal."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError, MediaError
from ..files import (
    DATASET_BYTES,
    atomic_file,
    is_held,
    json_value,
    patiently,
    read_text,
    write_error,
)

LOG_FILE = "log.jsonl"
CURVES_FILE = "curves.png"
#: How the names of scores in training begin, and the difference from the network without its LoRA.
REWARD, DRIFT = "reward_", "drift"
_SMOOTHED_POINTS = 50
_STEP = re.compile(r"step \d+/\d+  |sample after step \d+: ")


class Log:
    """Rows of metrics by step. Rows beyond the step that a run resumes from are dropped.

    If another program has the log open, so that Windows locks it, the run continues and the rows
    follow once the log is closed.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.path = folder / LOG_FILE
        self.rows = [row for row in read_log(self.path) if row["step"] <= step]
        with atomic_file(self.path) as scratch:
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            scratch.write_text(text, encoding="utf-8")
        self._num_written = len(self.rows)

    def add(self, step: int, figures: Mapping[str, float]) -> tuple[str, ...]:
        """Append a row; returns notes for the user."""
        self.rows.append({"step": step, **figures})
        lines = [json.dumps(row) + "\n" for row in self.rows[self._num_written :]]
        try:
            with patiently(
                lambda: self.path.open("a", encoding="utf-8"), wait=len(lines) == 1
            ) as opened:
                opened.write("".join(lines))
        except OSError as error:
            if not is_held(error):
                raise write_error(self.path, error) from error
            said = error.strerror or error
            if len(lines) > 1:
                return ()
            return (f"{self.path} cannot be written to ({said}); its rows follow once it can.",)
        self._num_written = len(self.rows)
        return ()

    def has(self, step: int, prefix: str) -> bool:
        """Whether there is a row of `step` with a metric whose name begins like this."""
        return any(
            row["step"] == step and any(name.startswith(prefix) for name in row)
            for row in self.rows
        )

    def draw(self) -> tuple[str, ...]:
        """Draw all curves as an image next to the log; returns notes for the user."""
        try:
            draw_curves(self.rows, self.path.with_name(CURVES_FILE))
        except MediaError as error:  # the next image will include everything
            return (str(error),)
        return ()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, without a last line that was cut off by a crash."""
    if not path.is_file():
        return []
    remedy = "Delete the line, or the file: it only contains metrics."
    text = read_text(path, error=InputError, remedy=remedy, limit=DATASET_BYTES)
    whole = text[: text.rfind("\n") + 1].split("\n")[:-1]
    rows = []
    for number, line in enumerate(whole, start=1):
        name = f"{path}, line {number}"
        row = json_value(line, dict, name, error=InputError, remedy=remedy, finite=False)
        if type(row.get("step")) is not int or not {float, int}.issuperset(map(type, row.values())):
            raise InputError(f"{name} is not a step with its metrics. {remedy}")
        rows.append(row)
    return rows


class Means:
    """Metrics averaged over the steps between two rows."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._steps: list[Mapping[str, Tensor]] = []
        self._taken: list[Mapping[str, Tensor]] = []

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Add the metrics of one step, which need not have all of them."""
        self._steps.append(figures)
        for name, value in figures.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        self._taken, self._steps = self._steps, []
        return means

    def first_bad(self, step: int) -> int:
        """The first step in the row that ends at `step` with a value that is not finite."""
        first = step - len(self._taken) + 1
        for number, figures in enumerate(self._taken, start=first):
            if not all(math.isfinite(float(value)) for value in figures.values()):
                return number
        return step


class Pace:
    """Throughput since the last row, and the remaining time."""

    def __init__(self, step: int, steps: int) -> None:
        self._steps = steps
        self._first = self._last = (time.perf_counter(), step)
        self._clips = self._tokens = 0

    def count(self, clips: int, tokens: int) -> None:
        """Count the clips and tokens of one batch, over all ranks."""
        self._clips += clips
        self._tokens += tokens

    def figures(self, step: int) -> dict[str, float]:
        """Clips and tokens per second since the last call, and the seconds left in total."""
        now = time.perf_counter()
        seconds = max(now - self._last[0], 1e-9)
        per_step = (now - self._first[0]) / max(1, step - self._first[1])
        figures = {
            "clips_per_second": self._clips / seconds,
            "tokens_per_second": self._tokens / seconds,
            "seconds_left": per_step * (self._steps - step),
        }
        self._last = (now, step)
        self._clips = self._tokens = 0
        return figures


def describe(step: int, steps: int, figures: Mapping[str, float]) -> str:
    """A line for the terminal."""
    losses = "  ".join(
        f"{name} {value:.4g}"
        for name, value in figures.items()
        if "loss" in name or name.startswith(REWARD)
    )
    left = timedelta(seconds=round(figures["seconds_left"]))
    return (
        f"step {step}/{steps}  {losses}  lr {figures['learning_rate']:.2e}  "
        f"{figures['clips_per_second']:.3g} clips/s  {figures['tokens_per_second']:,.0f} tokens/s  "
        f"{left} left"
    )


def is_of_a_step(line: str) -> bool:
    """Whether the line is about one step or sample, of which a run reports a great many."""
    return _STEP.match(line) is not None


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot all losses and validation metrics over the steps, as a PNG."""
    from matplotlib.figure import Figure  # pyplot would keep the figure and touch the host's GUI

    names = sorted({name for row in rows for name in row if _is_curve(name)})
    if not names:
        return
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(5 * columns, 3.2 * lines))
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = zip(*points, strict=True)
        width = max(1, len(values) // _SMOOTHED_POINTS)
        axis.plot(steps, values, alpha=0.3 if width > 1 else 1.0)
        if width > 1:
            axis.plot(steps[width - 1 :], _moving_mean(values, width))
        axis.set_title(name.replace("_", " "))
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    figure.tight_layout()
    with atomic_file(path, spare=False) as scratch:
        figure.savefig(scratch, format="png", dpi=110)


def _is_curve(name: str) -> bool:
    return (
        "loss" in name
        or name.startswith(("validation", REWARD))
        or name in ("learning_rate", DRIFT)
    )


def _moving_mean(values: tuple[float, ...], width: int) -> list[float]:
    return [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]


def print_line(text: str) -> None:
    """Print a line of a run's report."""
    print(text, flush=True)  # noqa: T201  (a run's report)


def tell_nobody(text: str) -> None:
    """Discard a line of a run's report."""


Report = Callable[[str], None]
