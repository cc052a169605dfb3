"""A process that makes attempts, one per line of its input, within a limit of memory.

Run as `python -m tests.fuzz.worker FOLDER`; a line is a format's name, a seed and a number,
separated by tabs. An answer is a line of JSON.
"""

import json
import logging
import os
import re
import resource
import sys
from pathlib import Path

from .attempts import Workspace
from .formats import BY_NAME

#: Beyond what the libraries take. No valid file of the formats needs a tenth of it.
MEMORY = 3 * 2**30


def main(folder: Path) -> None:
    answers = os.fdopen(os.dup(1), "w")  # what libraries print must not get between
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.CRITICAL)
    spaces: dict[str, Workspace] = {}
    for line in sys.stdin:
        name, seed, number = line.rstrip("\n").split("\t")
        if name not in spaces:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            spaces[name] = Workspace(BY_NAME[name], folder / re.sub(r"\W", "-", name))
            spaces[name].check()
            limit = _address_space() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            answers.write("ready\n")
            answers.flush()
        outcome = spaces[name].attempt(int(seed), int(number))
        answers.write(json.dumps([outcome.kind, outcome.said]) + "\n")
        answers.flush()


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
