"""Options shared by several commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, InputError
from ..files import named_path
from ..files.home import expanded
from ..memory.device_names import DEVICE_NAMES, DTYPE_NAMES
from ..small_model import named_checkpoint


def path_in(text: str) -> Path:
    """A path that is part of an option; `~` is the home folder."""
    return named_path(str(expanded(text)), "The path", InputError)


def path_of(text: str) -> Path:
    """A path; `~` is the home folder. The type of every option that takes a file or folder."""
    try:
        return path_in(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def checkpoint_in(text: str) -> Path:
    """A checkpoint that is part of an option: a path, or a built-in model by its name."""
    return named_checkpoint(text) or path_in(text)


def checkpoint_of(text: str) -> Path:
    """A checkpoint. The type of every option that takes one."""
    try:
        return checkpoint_in(text)
    except (CheckpointError, InputError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def tracks_of(text: str) -> str:
    """Tracks as JSON text, or a path."""
    return text if text.lstrip().startswith("[") else str(path_of(text))


def size_of(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH as (height, width)."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 384x672") from None
    return height, width


def add_device(parser: Any, of: str = "") -> None:
    """Add the option for the device; `of` is a prefix of its help, such as "of CLIP: "."""
    parser.add_argument("--device", default="auto", help=of + DEVICE_NAMES)


def add_dtype(parser: Any) -> None:
    """Add the option for the compute dtype."""
    parser.add_argument("--dtype", default="auto", help=DTYPE_NAMES)


def print_device_notes(arguments: argparse.Namespace, pipeline: Any) -> None:
    """Print what a user needs to know about a pipeline's device and dtype."""
    from ..memory.devices import device_notes

    for note in device_notes(arguments.device, pipeline.device, pipeline.dtype):
        print(f"note: {note}")


def add_force(parser: Any) -> None:
    """Add the option that allows replacing earlier results."""
    parser.add_argument("--force", action="store_true", help="replace an earlier result")


def add_embedding_cache(group: Any) -> None:
    """Add the option for the cache of `Pipeline.load`."""
    group.add_argument("--no-embedding-cache", action="store_false", dest="embedding_cache",
                       help="disable the cache of prompt embeddings in "
                       "~/.cache/easyanimate/embeddings, or embeddings in $EASYANIMATE_CACHE "
                       "(at most 1 GB; delete the folder to clear it)")  # fmt: skip


def flag(name: str) -> str:
    """The command line spelling of an option."""
    return "--" + name.replace("_", "-")
