"""The small model that ships with the package: a V5.1 that makes 96 x 96 clips of moving shapes.

It supports prompts, images, masks, control videos, reference images, tracks and cameras, so that
everything can be tried and tested without a download. Three denoisers share one VAE and one text
encoder; `small_checkpoint` assembles them into complete checkpoint folders.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CheckpointError, MediaError
from .files import atomic_folder, cache_folder, temporary_cache
from .models.specs import Head
from .recipe_files import BUILT_IN, BUILT_IN_HEADS, built_in_head
from .version import __version__

if TYPE_CHECKING:
    from .settings import Settings

logger = logging.getLogger(__name__)

#: The folder of its components in the package.
FOLDER = Path(__file__).parent / "small_model_weights"
HEADS = BUILT_IN_HEADS
#: Trained size: frames, height, width.
SIZE = (17, 96, 96)
#: How its names begin.
BUILT_IN_NAME = "small (built in)"
#: Its names in lists of checkpoints.
NAMES = {f"{BUILT_IN_NAME}: {head.value}": head for head in HEADS}
#: An example prompt: a sentence with a shape, its colour and size, a motion and a background.
EXAMPLE_PROMPT = "A large red circle moves left on grey stripes."
_SHARED = ("vae", "text_encoder", "tokenizer", "scheduler")


def fitted(settings: Settings) -> Settings:
    """The settings with the small model's size and length where none are given."""
    frames, height, width = SIZE
    if settings.height is None:
        settings = replace(settings, height=height, width=width)
    return settings if settings.frames is not None else replace(settings, frames=frames)


def is_installed() -> bool:
    """Whether this copy of the package includes the weights of every head."""
    return all(_transformer(head).is_dir() for head in HEADS)


def small_checkpoint(head: Head) -> Path:
    """A complete checkpoint folder of the small model with `head`, created by the first call.

    It is in the cache folder and consists of hard links to the package's files, or copies if the
    file system has no links. If the cache is not writable, a temporary folder is used that lasts as
    long as the process.

    Raises:
        CheckpointError: The small model has no such head, its weights are missing, or no folder is
            writable.
    """
    if head not in HEADS:
        raise CheckpointError(
            f"The small model has no {head.value} head; it has "
            f"{', '.join(own.value for own in HEADS)}. Its InP head makes videos from text too."
        )
    transformer = _transformer(head)
    if not transformer.is_dir():
        raise CheckpointError(
            f"{transformer} is missing: this copy of the package does not include the small model. "
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
            f"The small model needs up to 22 MB outside its package, but neither {kept} nor a "
            f"temporary folder can be written ({error}). Set the environment variable "
            "EASYANIMATE_CACHE to a writable folder."
        ) from error


def is_built_in(name: str | Path) -> bool:
    """Whether it is one of `NAMES`; `CheckpointError` if it only begins like them."""
    text = str(name)
    if text.startswith(BUILT_IN_NAME) and text not in NAMES:
        raise CheckpointError(
            f"There is no built-in model {text!r}; there are {', '.join(map(repr, NAMES))}."
        )
    return text in NAMES


def named_checkpoint(name: str | Path) -> Path | None:
    """The checkpoint folder of one of `NAMES`, created by the first call; None for any other path.

    Raises `CheckpointError` as `is_built_in` and `small_checkpoint` do.
    """
    return small_checkpoint(NAMES[str(name)]) if is_built_in(name) else None


def lies_in_cache(checkpoint: Path) -> bool:
    """Whether a folder from `small_checkpoint` outlives the process."""
    return cache_folder(BUILT_IN) in checkpoint.parents


def _made(target: Path, transformer: Path) -> Path:
    """Return `target`, creating it if necessary; `MediaError` if that fails."""
    if _is_whole(target):
        return target
    try:
        with atomic_folder(target, spare=False) as partial:
            for part in _SHARED:
                _link(FOLDER / part, partial / part)
            _link(transformer, partial / "transformer")
    except MediaError:  # another process may have been faster
        if not _is_whole(target):
            raise
    return target


def _is_whole(target: Path) -> bool:
    try:
        return target.is_dir()
    except OSError:  # the cache belongs to another user
        return False


def made_again(folder: str | Path) -> Path | None:
    """Recreate the checkpoint of a folder from `small_checkpoint`, here or on another machine.

    None if the path is not such a folder. It may be a path of another operating system.
    """
    head = built_in_head(os.fspath(folder))
    return None if head is None else small_checkpoint(head)


def _transformer(head: Head) -> Path:
    return FOLDER / f"transformer-{head.value}"


def _identity() -> str:
    """A name that changes with the weights: a hash of the files' sizes and times."""
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
