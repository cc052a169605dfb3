"""The small model that ships with the package: V5.1 and V5, for 96 x 96 clips of moving shapes.

It supports prompts, images, masks, control videos and tracks, and as V5.1 reference images and
cameras, so that everything can be tried and tested without a download. The denoisers of a version
share its VAE and its text encoders; `small_checkpoint` assembles them into complete checkpoint
folders.
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
from .models.specs import Head, Version
from .recipe_files import BUILT_IN, BUILT_IN_HEADS, BUILT_IN_MODELS, BuiltInModel, built_in_model
from .version import __version__

if TYPE_CHECKING:
    from .settings import Settings

logger = logging.getLogger(__name__)

#: The folder of its components in the package, and where in it those of a version are.
FOLDER = Path(__file__).parent / "small_model_weights"
SUBFOLDERS = {Version.V5_1: "", Version.V5: "v5"}
HEADS = BUILT_IN_HEADS
#: Trained size: frames, height, width.
SIZE = (17, 96, 96)
#: How the names of its checkpoints in lists begin.
BUILT_IN_NAME = "small (built in)"
#: An example prompt: a sentence with a shape, its colour and size, a motion and a background.
EXAMPLE_PROMPT = "A large red circle moves left on grey stripes."
#: What all checkpoints of a version share: its text encoders with their tokenizers, and the rest.
TEXT_PARTS = {
    Version.V5_1: ("text_encoder", "tokenizer"),
    Version.V5: ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
}
_SHARED = ("vae", "scheduler")
#: The VAE's weights, which serve both versions; their configs differ.
VAE_WEIGHTS = Path("vae", "diffusion_pytorch_model.safetensors")


def list_name(head: Head, version: Version = Version.V5_1) -> str:
    """The name of a checkpoint in lists."""
    return f"{BUILT_IN_NAME}: {BuiltInModel(head, version).name}"


def few_steps_name(head: Head, version: Version = Version.V5_1) -> str:
    """The name of a checkpoint's LoRA for few steps in lists."""
    return f"{list_name(head, version)} four steps"


#: Every checkpoint by its name in lists.
NAMES = {list_name(*model): model for model in BUILT_IN_MODELS}


#: Every LoRA for few steps without guidance by its name in lists.
LORA_NAMES = {few_steps_name(*model): model for model in BUILT_IN_MODELS}


def fitted(settings: Settings) -> Settings:
    """The settings with the small model's size and length where none are given."""
    frames, height, width = SIZE
    if settings.height is None:
        settings = replace(settings, height=height, width=width)
    return settings if settings.frames is not None else replace(settings, frames=frames)


def weights_folder(version: Version) -> Path:
    """The folder of a version's components in the package."""
    return FOLDER / SUBFOLDERS[version]


def is_installed(version: Version = Version.V5_1) -> bool:
    """Whether this copy of the package includes the weights of every head of a version."""
    return all(_transformer(head, version).is_dir() for head in HEADS[version])


def installed_names() -> list[str]:
    """Those of `NAMES` whose weights this copy of the package includes."""
    return [name for name, model in NAMES.items() if is_installed(model.version)]


def small_checkpoint(head: Head, version: Version = Version.V5_1) -> Path:
    """A complete checkpoint folder of the small model with `head`, created by the first call.

    It is in the cache folder and consists of hard links to the package's files, or copies if the
    file system has no links. If the cache is not writable, a temporary folder is used that lasts as
    long as the process.

    Raises:
        CheckpointError: The small model has no such head, its weights are missing, or no folder is
            writable.
    """
    if head not in HEADS[version]:
        raise CheckpointError(_lacks(head, version))
    transformer = _transformer(head, version)
    if not transformer.is_dir():
        raise CheckpointError(
            f"{transformer} is missing: this copy of the package does not include the small model. "
            "Install it from its repository again."
        )
    place = Path(_identity(), BuiltInModel(head, version).folder_name)
    kept = cache_folder(BUILT_IN) / place
    try:
        return _made(kept, head, version)
    except MediaError as error:
        logger.warning("%s", error)
    try:
        return _made(temporary_cache() / BUILT_IN / place, head, version)
    except (MediaError, OSError) as error:
        raise CheckpointError(
            f"The small model needs up to 12 MB outside its package, but neither {kept} nor a "
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
    return small_checkpoint(*NAMES[str(name)]) if is_built_in(name) else None


def installed_loras() -> list[str]:
    """Those of `LORA_NAMES` that this copy of the package includes."""
    return [name for name, model in LORA_NAMES.items() if model.few_steps.is_file()]


def named_lora(name: str | Path) -> Path | None:
    """The file of one of `LORA_NAMES`; None for any other path.

    Raises:
        CheckpointError: It only begins like one of them, or is not in this copy of the package.
    """
    text = str(name)
    if not text.startswith(BUILT_IN_NAME):
        return None
    if text not in LORA_NAMES:
        raise CheckpointError(
            f"There is no built-in LoRA {text!r}; there are {', '.join(map(repr, LORA_NAMES))}."
        )
    return few_steps_lora(*LORA_NAMES[text])


def few_steps_lora(head: Head, version: Version = Version.V5_1) -> Path:
    """The LoRA with which the small model needs few steps and no guidance.

    Raises `CheckpointError` if it is not in this copy of the package.
    """
    file = BuiltInModel(head, version).few_steps
    if not file.is_file():
        raise CheckpointError(
            f"{file} is missing: this copy of the package does not include the small model's "
            "LoRAs. Install it from its repository again."
        )
    return file


def lies_in_cache(checkpoint: Path) -> bool:
    """Whether a folder from `small_checkpoint` outlives the process."""
    return cache_folder(BUILT_IN) in checkpoint.parents


def _made(target: Path, head: Head, version: Version) -> Path:
    """Return `target`, creating it if necessary; `MediaError` if that fails."""
    if _is_whole(target):
        return target
    try:
        with atomic_folder(target, spare=False) as partial:
            for part in (*TEXT_PARTS[version], *_SHARED):
                _link(weights_folder(version) / part, partial / part)
            if version is Version.V5:
                _link_file(FOLDER / VAE_WEIGHTS, partial / VAE_WEIGHTS)
            _link(_transformer(head, version), partial / "transformer")
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
    model = built_in_model(os.fspath(folder))
    return None if model is None else small_checkpoint(*model)


def _lacks(head: Head, version: Version) -> str:
    """Why there is no such checkpoint, and which to use instead."""
    own = ", ".join(other.value for other in HEADS[version])
    said = f"The small model of {version.value} has no {head.value} head; it has {own}."
    if head is Head.T2V:
        return f"{said} Its InP head makes videos from text too."
    others = [other.value for other, heads in HEADS.items() if head in heads]
    return f"{said} That of {' and '.join(others)} has it."


def _transformer(head: Head, version: Version) -> Path:
    return weights_folder(version) / f"transformer-{head.value}"


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
