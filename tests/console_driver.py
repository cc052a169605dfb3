"""Runs commands on consoles of other encodings, each as if it were alone in its process.

`python -I tests/console_driver.py` reads a JSON list of encodings and command lines, and prints
what they print, with a line `## STATUS` after each. No variable takes part: Python is isolated.
"""

import io
import json
import os
import sys
from pathlib import Path


def console(descriptor: int, encoding: str, errors: str) -> io.TextIOWrapper:
    """A stream as Python itself opens it on a pipe."""
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(descriptor, "wb", closefd=False)),
        encoding=encoding,
        errors=errors,
    )


def run() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from easyanimate_core.cli.main import main

    for encoding, words in json.load(sys.stdin):
        sys.stdout = sys.__stdout__ = console(1, encoding, "strict")
        sys.stderr = sys.__stderr__ = console(2, encoding, "backslashreplace")
        status = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, f"## {status}\n".encode("ascii"))


if __name__ == "__main__":
    run()
