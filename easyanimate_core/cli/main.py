"""The commands: `python -m easyanimate_core --help` lists them."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..console import output_failure, prepare_streams
from ..errors import EasyAnimateError, ElsewhereError, InputError, MediaError
from ..files import write_error
from ..files.commands import program
from ..left_out import check_included, is_included
from ..small_model import EXAMPLE_PROMPT
from ..version import __version__
from .stopping import stoppable

#: Modules of commands, in the order of the help. The pack published for ComfyUI lacks some.
_COMMANDS = (
    "generate", "encode", "plan", "doctor", "download", "describe", "convert", "merge_lora",
    "preprocess", "camera", "trajectory", "prepare_data", "train", "make_clips", "evaluate",
    "evaluate_meaning", "compare_runs", "make_tiny", "demo", "app",
)  # fmt: skip

EXIT_REFUSED = 2
#: Disk errors that no command can recover from: full or not writable.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
EXIT_OUTPUT_LOST = 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog=program(),
        description="EasyAnimate V5 and V5.1: generate videos from text, images, clips, control "
        "videos, camera moves and tracks.",
        epilog="Try it without a download: "
        f'%(prog)s generate --prompt "{EXAMPLE_PROMPT}" --output circle.mp4',
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--verbose", action="store_true", help="also print warnings from libraries")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in _COMMANDS:
        if is_included(f"cli.{name}"):
            import_module(f".{name}", __package__).add_parser(commands)
        else:
            _add_refusal(commands, name)
    return parser


def _add_refusal(commands: Any, name: str) -> None:
    """Add a command that this copy lacks: not in the help, and refused with any arguments."""
    command = name.replace("_", "-")
    # No word starts with a null character, so none is taken for an option.
    parser = commands.add_parser(command, add_help=False, prefix_chars="\0")
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=lambda _: check_included(command, f"cli.{name}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for an error, 130 after Ctrl-C, 143 after SIGTERM."""
    prepare_streams()
    with stoppable() as stop:
        try:
            status = _run(arguments)
        except ElsewhereError as error:
            return stop.status if isinstance(error.__cause__, KeyboardInterrupt) else EXIT_REFUSED
        except BaseException as error:
            # A library may have turned the interruption into another exception.
            if isinstance(error, KeyboardInterrupt) or stop.signal is not None:
                said = str(error) if isinstance(error, KeyboardInterrupt) else ""
                print(f"\nStopped. {said or 'No partial file was left.'}", file=sys.stderr)
                return stop.status
            if isinstance(error, SystemExit):  # from argparse, after help or an error
                if _is_output_lost():
                    return EXIT_OUTPUT_LOST
                raise
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                error = write_error(Path(error.filename or "A file"), error)
            elif isinstance(error, OSError) and error.filename:  # an error about a file
                error = MediaError(f"{error.filename} cannot be used: {error.strerror}.")
            elif isinstance(error, ModuleNotFoundError):
                error = _without_module(error)
            if not isinstance(error, EasyAnimateError):
                raise
            print(f"error: {error}", file=sys.stderr)
            return EXIT_REFUSED
    return EXIT_OUTPUT_LOST if _is_output_lost() else status


def _is_output_lost() -> bool:
    """Whether some output was lost, which is reported."""
    failure = output_failure()
    if failure is not None:
        print(f"error: not all of the output could be written: {failure}", file=sys.stderr)
    return failure is not None


def _without_module(error: ModuleNotFoundError) -> ModuleNotFoundError | InputError:
    """An error about a missing package, or the original one if the fault is ours."""
    package = (error.name or "easyanimate_core").partition(".")[0]
    if package == "easyanimate_core":
        return error
    return InputError(
        f"{package} is not installed in {sys.executable}. Use ComfyUI's Python: "
        "python_embeded\\python.exe of the portable version, else the one that runs main.py."
    )


def _run(arguments: Sequence[str] | None) -> int:
    parsed = build_parser().parse_args(arguments)
    _set_up_logging(verbose=parsed.verbose)
    status: int = parsed.run(parsed)
    return status


def _set_up_logging(*, verbose: bool) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if verbose:
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # importing it resets its level
    logging.getLogger("transformers").setLevel(logging.ERROR)
    logging.getLogger("easyanimate_core").setLevel(logging.ERROR)  # its notes are printed instead
