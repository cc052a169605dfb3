"""`doctor`: examines this machine and tells what is wrong with it, and how to correct it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..files import Result, atomic_file, check_results
from ..files.commands import PACK
from .bars import ProgressBars
from .options import add_device, add_dtype, add_force, path_of

EXIT_WRONG = 1


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "doctor",
        help="examine this machine, and tell what is wrong with it",
        description="Examine this machine: versions, device and dtype, attention, folders, "
        "weights, memory, and the results of small networks against recordings of the original. "
        "Every problem is told with its remedy. The page is for bug reports: it names neither the "
        "user nor a token. The exit status is 0 if nothing is wrong, else 1.",
    )
    parser.set_defaults(run=run)
    add_device(parser)
    add_dtype(parser)
    parser.add_argument("--quick", action="store_true",
                        help="compute nothing and import no package to test it")  # fmt: skip
    parser.add_argument("--hashes", action="store_true",
                        help="read all weights and compare their published hashes, where known; "
                        "this takes minutes")  # fmt: skip
    parser.add_argument("--models", type=path_of, action="append", default=[], metavar="DIR",
                        help="also examine the checkpoints in this folder; may be "
                        "repeated")  # fmt: skip
    parser.add_argument("--output", type=path_of, metavar="FILE",
                        help="write the page for a bug report, as Markdown")  # fmt: skip
    add_force(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the sections as they are found; the exit status is 1 if something is wrong."""
    from ..doctor import Examination, Folders, State, count, is_page, page, summary, told
    from ..doctor.versions import comfyui_version
    from ..hub.places import find_places

    if arguments.output is not None:
        check_results([Result(arguments.output, "page", is_page)], force=arguments.force)
    places = find_places(PACK, os.environ)
    folders = Folders.of(places, arguments.models)
    found = []
    with ProgressBars(leave=False) as bars:
        examination = Examination(
            folders,
            arguments.device,
            arguments.dtype,
            quick=arguments.quick,
            hashes=arguments.hashes,
            progress=bars,
            comfyui=None if places.base is None else comfyui_version(places.base),
        )
        for section in examination.sections():
            found.append(section)
            print("\n".join(told(section)), flush=True)
            print()
    print(summary(found))
    if arguments.output is not None:
        with atomic_file(arguments.output) as temporary:
            temporary.write_text(page(found), encoding="utf-8")
        print(f"{arguments.output}: to paste into a bug report")
    return EXIT_WRONG if count(found, State.WRONG) else 0
