"""Attempts on the command line: `python -m tests.fuzz --attempts 1000 --format recipe`.

A fault is told with its seed and number; the same with `--number` makes it again in this process,
with the traceback, and leaves the changed file.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .attempts import Workspace
from .campaign import names_of_formats, run, table
from .formats import BY_NAME


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=100, help="per format")
    parser.add_argument("--first", type=int, default=0, help="number to begin with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", action="append", choices=names_of_formats())
    parser.add_argument("--number", type=int, help="make this one attempt again")
    arguments = parser.parse_args()
    names = arguments.format or names_of_formats()
    if arguments.number is not None:
        return repeat(names[0], arguments.seed, arguments.number)
    begun = time.monotonic()
    numbers = range(arguments.first, arguments.first + arguments.attempts)
    rows = run(arguments.seed, numbers, names, lambda text: print(text, flush=True))
    print(table(rows))
    print(f"{sum(row.tried for row in rows)} attempts in {time.monotonic() - begun:.0f} s")
    return 1 if any(row.faults for row in rows) else 0


def repeat(name: str, seed: int, number: int) -> int:
    """One attempt in this process, its file kept."""
    space = Workspace(BY_NAME[name], Path(tempfile.mkdtemp(prefix="fuzz-")) / "space")
    space.check()
    space.change(seed, number)
    print(f"The changed files are in {space.folder}", flush=True)
    space.check()
    print("a result")
    return 0


if __name__ == "__main__":
    sys.exit(main())
