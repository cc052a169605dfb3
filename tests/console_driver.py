"""Runs commands in a process whose console has another encoding, each as if it were the only one.

`python -I tests/console_driver.py ENCODING` reads a JSON list of command lines and prints what they
print, with a line `## STATUS` after each. No environment variable takes part: Python is isolated.
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

    lines = json.load(sys.stdin)
    for words in lines:
        sys.stdout = sys.__stdout__ = console(1, sys.argv[1], "strict")
        sys.stderr = sys.__stderr__ = console(2, sys.argv[1], "backslashreplace")
        status = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, f"## {status}\n".encode("ascii"))


if __name__ == "__main__":
    run()
