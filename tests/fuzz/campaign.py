"""Many attempts in processes that are replaced when one hangs or crashes."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .attempts import FAULT, REFUSAL, RESULT
from .formats import FORMATS

ROOT = Path(__file__).parents[2]
#: Of one attempt. The slowest takes a second on a machine of its own.
SECONDS = 60
_START_SECONDS = 300


@dataclass
class Row:
    """What came of a format's attempts; `faults` by number."""

    name: str
    tried: int = 0
    results: int = 0
    refusals: int = 0
    faults: dict[int, str] = field(default_factory=dict)


class Worker:
    """A process of `tests.fuzz.worker`, started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ready: set[str] = set()

    def attempt(self, name: str, seed: int, number: int) -> tuple[str, str]:
        """The kind of outcome and what was said."""
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(f"{name}\t{seed}\t{number}\n")
        process.stdin.flush()
        if name not in self._ready:
            if self._line(_START_SECONDS) != "ready\n":
                self.stop()
                return FAULT, "the valid files are not read"
            self._ready.add(name)
        line = self._line(SECONDS)
        if line is None:
            self.stop()
            return FAULT, f"no answer in {SECONDS} s"
        if not line:
            status = process.wait()
            self.stop()
            return FAULT, f"the process ended with status {status}"
        kind, said = json.loads(line)
        return kind, said

    def stop(self) -> None:
        """End the process and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()
        self._process, self._folder, self._ready = None, None, set()

    def _start(self) -> "subprocess.Popen[str]":
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        command = [sys.executable, "-m", "tests.fuzz.worker", self._folder.name]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._lines = queue.Queue()
        threading.Thread(target=_pump, args=(self._process, self._lines), daemon=True).start()
        return self._process

    def _line(self, seconds: float) -> str | None:
        """The next line, "" where the process has ended, None where it does not answer."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None


def _pump(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")


def run(
    seed: int, numbers: Iterable[int], names: Iterable[str], say: Callable[[str], None]
) -> list[Row]:
    """Every number of every format; `say` is told each fault at once."""
    worker, rows = Worker(), []
    numbers = list(numbers)
    try:
        for name in names:
            row = Row(name)
            rows.append(row)
            for number in numbers:
                kind, said = worker.attempt(name, seed, number)
                row.tried += 1
                row.results += kind == RESULT
                row.refusals += kind == REFUSAL
                if kind == FAULT:
                    row.faults[number] = said
                    say(f"{name}, seed {seed}, number {number}: {said}")
    finally:
        worker.stop()
    return rows


def table(rows: Iterable[Row]) -> str:
    """The outcomes as a table of text."""
    lines = [f"{'format':<20}{'tried':>7}{'results':>9}{'refusals':>10}{'anything else':>15}"]
    lines += [
        f"{r.name:<20}{r.tried:>7}{r.results:>9}{r.refusals:>10}{len(r.faults):>15}" for r in rows
    ]
    return "\n".join(lines)


def names_of_formats() -> list[str]:
    """All of them, in order."""
    return [format_.name for format_ in FORMATS]
