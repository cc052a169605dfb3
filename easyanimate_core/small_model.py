"""The small model that ships with the package: a V5.1 that makes 96 x 96 clips of moving shapes.

It answers prompts, pictures, masks, control videos, reference images, tracks and cameras, so that
everything can be tried and tested without a download. One VAE and one text encoder serve three
denoisers; `small_checkpoint` puts them together as the folders that checkpoints are.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

from .errors import CheckpointError, MediaError
from .files import atomic_folder, cache_folder, temporary_cache
from .models.specs import Head
from .recipe_files import BUILT_IN, BUILT_IN_HEADS, built_in_head
from .version import __version__

logger = logging.getLogger(__name__)

#: Where the package keeps its parts.
FOLDER = Path(__file__).parent / "small_model_weights"
HEADS = BUILT_IN_HEADS
#: What it was trained for: frames, height, width.
SIZE = (17, 96, 96)
#: The names under which lists of checkpoints show it.
NAMES = {f"small (built in): {head.value}": head for head in HEADS}
#: A prompt that it understands: one sentence on a shape, its colour and size, a motion, a ground.
EXAMPLE_PROMPT = "A large red circle moves left on grey stripes."
_SHARED = ("vae", "text_encoder", "tokenizer", "scheduler")


def is_installed() -> bool:
    """Whether this copy of the package came with its weights, for every head."""
    return all(_transformer(head).is_dir() for head in HEADS)


def small_checkpoint(head: Head) -> Path:
    """A complete checkpoint folder of the small model with `head`, made at the first call.

    It lies in the cache folder; its files are hard links of the package's, or copies where the disk
    has no links. Where that folder cannot be written it lies in a temporary one, for as long as the
    process lives.

    Raises:
        CheckpointError: The small model has no such head, or its weights are not there, or there is
            no place for it.
    """
    if head not in HEADS:
        raise CheckpointError(
            f"The small model has no {head.value} head; it has "
            f"{', '.join(own.value for own in HEADS)}. Its InP head makes videos from text too."
        )
    transformer = _transformer(head)
    if not transformer.is_dir():
        raise CheckpointError(
            f"{transformer} is missing: this copy of the package came without the small model. "
            "Install it from its repository again."
        )
    kept = cache_folder(BUILT_IN) / _identity() / head.value
    try:
        return _made(kept, transformer)
    except MediaError as error:
        logger.warning("%s", error)
    try:
        return _made(temporary_cache() / BUILT_IN / _identity() / head.value, transformer)
    except (MediaError, OSError) as error:
        raise CheckpointError(
            f"The small model takes up to 22 MB beside its package, and neither {kept} nor a "
            f"temporary folder can be written ({error}). Name a folder that can be with the "
            "environment variable EASYANIMATE_CACHE."
        ) from error


def lies_in_cache(checkpoint: Path) -> bool:
    """Whether a folder of `small_checkpoint` is there the next time too."""
    return cache_folder(BUILT_IN) in checkpoint.parents


def _made(target: Path, transformer: Path) -> Path:
    """`target`, which is made where it is not there; `MediaError` where it cannot be."""
    if _is_whole(target):
        return target
    try:
        with atomic_folder(target, spare=False) as partial:
            for part in _SHARED:
                _link(FOLDER / part, partial / part)
            _link(transformer, partial / "transformer")
    except MediaError:  # another process was quicker
        if not _is_whole(target):
            raise
    return target


def _is_whole(target: Path) -> bool:
    try:
        return target.is_dir()
    except OSError:  # a cache of somebody else
        return False


def made_again(folder: str | Path) -> Path | None:
    """The checkpoint of a folder that `small_checkpoint` made, here or on another machine.

    None where it made no folder of such a name. The path may be of another system.
    """
    head = built_in_head(os.fspath(folder))
    return None if head is None else small_checkpoint(head)


def _transformer(head: Head) -> Path:
    return FOLDER / f"transformer-{head.value}"


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
