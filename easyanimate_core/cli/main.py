"""The commands: `python -m easyanimate_core --help` lists them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from ..errors import EasyAnimateError
from ..version import __version__
from . import (
    camera,
    compare_runs,
    convert,
    demo,
    describe,
    download,
    encode,
    evaluate,
    evaluate_meaning,
    generate,
    make_clips,
    merge_lora,
    plan,
    prepare_data,
    preprocess,
    tiny,
    train,
    trajectory,
)

_COMMANDS = (
    generate, encode, plan, download, describe, convert, merge_lora, preprocess, camera,
    trajectory, prepare_data, train, make_clips, evaluate, evaluate_meaning, compare_runs, tiny,
    demo,
)  # fmt: skip

EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m easyanimate_core",
        description="EasyAnimate V5 and V5.1: make videos from text, pictures, clips, control "
        "videos, camera moves and tracks.",
        epilog="Try it without a download: python -m easyanimate_core demo",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--verbose", action="store_true", help="also print warnings of libraries")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for a refusal, 130 after Ctrl-C."""
    parsed = build_parser().parse_args(arguments)
    _set_up_logging(verbose=parsed.verbose)
    try:
        return parsed.run(parsed)
    except EasyAnimateError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        print("\nStopped. No half-written file was left.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _set_up_logging(*, verbose: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if verbose:
        return
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("easyanimate_core").setLevel(logging.ERROR)  # the notes are printed instead
