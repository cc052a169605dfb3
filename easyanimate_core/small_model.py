"""The small model that ships with the package: a V5.1 that makes 96 x 96 clips of moving shapes.

It answers prompts, pictures, masks, control videos, reference images, tracks and cameras, so that
everything can be tried and tested without a download. One VAE and one text encoder serve three
denoisers; `small_checkpoint` puts them together as the folders that checkpoints are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from secrets import token_hex

from .cache_folder import cache_folder
from .errors import CheckpointError
from .specs import Head
from .version import __version__

#: Where the package keeps its parts.
FOLDER = Path(__file__).parent / "small_model_weights"
HEADS = (Head.INPAINT, Head.CONTROL, Head.CAMERA)
#: What it was trained for: frames, height, width.
SIZE = (17, 96, 96)
_SHARED = ("vae", "text_encoder", "tokenizer", "scheduler")


def small_checkpoint(head: Head) -> Path:
    """A complete checkpoint folder of the small model with `head`, made at the first call.

    It lies in the cache folder; its files are hard links of the package's, or copies where the disk
    has no links.

    Raises:
        CheckpointError: The small model has no such head, or its weights are not there.
    """
    if head not in HEADS:
        raise CheckpointError(
            f"The small model has no {head.value} head; it has "
            f"{', '.join(own.value for own in HEADS)}. Its InP head makes videos from text too."
        )
    transformer = FOLDER / f"transformer-{head.value}"
    if not transformer.is_dir():
        raise CheckpointError(
            f"{transformer} is missing: this copy of the package came without the small model. "
            "Install it from its repository again."
        )
    target = cache_folder("small-model") / _identity() / head.value
    if target.is_dir():
        return target
    partial = target.with_name(f".{head.value}.{token_hex(4)}.part")
    for part in _SHARED:
        _link(FOLDER / part, partial / part)
    _link(transformer, partial / "transformer")
    try:
        partial.rename(target)
    except OSError:  # another process was quicker
        shutil.rmtree(partial)
        if not target.is_dir():
            raise
    return target


def _identity() -> str:
    """A name that changes with the weights: sizes and times of the package's files."""
    files = sorted(file for file in FOLDER.rglob("*") if file.is_file())
    stamps = [(file.relative_to(FOLDER).as_posix(), file.stat().st_size) for file in files]
    times = [file.stat().st_mtime_ns for file in files]
    return hashlib.blake2b(repr((__version__, stamps, times)).encode(), digest_size=8).hexdigest()


def _link(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in source.iterdir():
        _link_file(file, target / file.name)


def _link_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
