"""`train`: a training run from a YAML file."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from ..errors import InputError
from ..progress import silent
from .bars import ProgressBars
from .options import path_of

_EPILOG = """\
examples:
  %(prog)s configs/v5.1-lora.yaml
  %(prog)s configs/v5.1-lora.yaml --set run.steps=2000 --set output=runs/long
  accelerate launch -m easyanimate_core train configs/v5.1-inpaint.yaml

configs/small/lora.yaml trains a LoRA of the built-in model on clips that it draws itself.
The same command resumes a run, however it was stopped.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a denoiser, a LoRA or a VAE",
        description="Train a denoiser (text to video, inpaint, control, camera), a LoRA of one, on "
        "clips or on rewards, or a VAE. configs/ has an example of each.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=path_of, help="the run's YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the file, such as run.steps=100; may be repeated",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="delete an earlier run in the output folder first, after a question that says what",
    )
    parser.add_argument("--yes", action="store_true", help="for --restart: do not ask")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be trained, and stop",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from ..files import check_writable
    from ..files.packages import TRAINING, require

    require("Training", TRAINING)
    from ..training.config import read_config
    from ..training.run import run_training
    from ..training.together import is_first_process, told_once

    with told_once():
        config = read_config(arguments.config, tuple(arguments.set))
        check_writable(config.output)
    with ProgressBars() as bars:
        paths = run_training(
            config,
            restart=arguments.restart,
            dry_run=arguments.dry_run,
            confirm=partial(_confirm, asks=not arguments.yes),
            progress=bars if is_first_process() else silent,
        )
        for path in paths:
            print(path)
    return 0


def _confirm(what: str, *, asks: bool) -> bool:
    """Whether an earlier run may be deleted; without `asks` it is only told."""
    if not asks:
        print(f"{what}. It is deleted.", flush=True)
        return True
    if not sys.stdin.isatty():
        raise InputError(f"{what}. To delete it without being asked, add --yes.")
    try:
        answer = input(f"{what}. Delete it and start over? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")
