"""Finds files in ComfyUI's model folders, including extra_model_paths."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...easyanimate_core.errors import CheckpointError
from ...easyanimate_core.files import parts_of
from ...easyanimate_core.files.commands import PACK
from ...easyanimate_core.hub import (
    ZooLora,
    ZooModel,
    find_places,
    how_to_install,
    install_command,
    list_command,
    published,
)
from ...easyanimate_core.hub.places import checkpoints_in
from ...easyanimate_core.small_model import (
    installed_loras,
    installed_names,
    named_checkpoint,
    named_lora,
)

#: Key of the folders for whole checkpoints, and ComfyUI's folders that may contain some.
CHECKPOINTS = "EasyAnimate"
#: Key of the folders for prompt embeddings.
EMBEDDINGS = "EasyAnimate_embeddings"
_CHECKPOINT_KEYS = (CHECKPOINTS, "diffusers", "diffusion_models", "checkpoints")

DIFFUSION_MODELS, TEXT_ENCODERS, VAES, LORAS = (
    "diffusion_models",
    "text_encoders",
    "vae",
    "loras",
)
#: Every key whose folders may hold this model's files.
MODEL_KEYS = (*_CHECKPOINT_KEYS, TEXT_ENCODERS, VAES, LORAS)
#: An invisible character that keeps the menus of ComfyUI 0.8's frontend from rendering a name as
#: an HTML tag.
_NO_TAG = ("<", "<\N{WORD JOINER}")


def register_folders() -> None:
    """Register `models/EasyAnimate`, after the paths of extra_model_paths.yaml.

    Embeddings are found in `models/EasyAnimate_embeddings` and where they are saved, just as
    ComfyUI finds models that its own nodes saved in the output folder.
    """
    models, output = Path(folder_paths.models_dir), Path(folder_paths.get_output_directory())
    for key, root in ((CHECKPOINTS, models), (EMBEDDINGS, models), (EMBEDDINGS, output)):
        folder_paths.add_model_folder_path(key, str(root / key))


def list_checkpoints() -> list[str]:
    """Names of checkpoint folders (with transformer/ and vae/), at most two levels deep.

    The pack's small model, if it is included, comes last.
    """
    return [*sorted({_listed(name) for name, _ in _checkpoints()}), *installed_names()]


def find_checkpoint(name: str) -> Path:
    """The folder of a name from `list_checkpoints`."""
    found = named_checkpoint(name) or next(
        (path for known, path in _checkpoints() if known == _named(name)), None
    )
    if found is None:
        folder = Path(folder_paths.models_dir) / CHECKPOINTS
        remedy = _how_to_install(name, CHECKPOINTS) or (
            f"Put EasyAnimate folders into {folder} (or a path of extra_model_paths.yaml under "
            f"{CHECKPOINTS}); {list_command()} lists those that can be downloaded"
        )
        raise CheckpointError(
            f"{remedy}, then press R to refresh the list. There is no checkpoint folder {name!r}."
        )
    return found


def check_checkpoint(name: str | None) -> bool | str:
    """True, or what is wrong with a checkpoint's name; None if another node provides it."""
    try:
        if name is not None:
            find_checkpoint(name)
    except CheckpointError as error:
        return str(error)
    return True


def _checkpoints() -> list[tuple[str, Path]]:
    found = []
    for key in _CHECKPOINT_KEYS:
        if key not in folder_paths.folder_names_and_paths:
            continue
        for root in map(Path, folder_paths.get_folder_paths(key)):
            found += checkpoints_in(root).items()
    return found


def list_files(key: str) -> list[str]:
    """Names of the safetensors files in one of ComfyUI's folders."""
    return [_listed(name) for name in _file_names(key) if name.lower().endswith(".safetensors")]


def list_loras() -> list[str]:
    """Names of the safetensors files in models/loras; the pack's own come last."""
    return [*list_files(LORAS), *installed_loras()]


def find_lora(name: str) -> Path:
    """The file of a name from `list_loras`."""
    return named_lora(name) or find_file(LORAS, name)


def _file_names(key: str) -> list[str]:
    try:
        return folder_paths.get_filename_list(key)
    except FileNotFoundError:  # ComfyUI checks the modification times of cached folders
        folder_paths.filename_list_cache.pop(key, None)
        return folder_paths.get_filename_list(key)


def choices(names: list[str]) -> list[str]:
    """Options of a combo.

    Of an empty list the page would send no value, and ComfyUI would only say that an input is
    missing. The empty name is refused with what to do.
    """
    return names or [""]


def list_denoisers() -> list[str]:
    """Names of the safetensors and GGUF files in models/diffusion_models."""
    gguf = []  # ComfyUI's own list omits GGUF
    for root in folder_paths.get_folder_paths(DIFFUSION_MODELS):
        names, _ = folder_paths.recursive_search(root)
        gguf += [_listed(name) for name in names if name.lower().endswith(".gguf")]
    return sorted({*list_files(DIFFUSION_MODELS), *gguf})


def find_file(key: str, name: str) -> Path:
    r"""The file of a name from `list_files` or `list_denoisers`.

    Workflows saved on Windows contain names with `\`, as ComfyUI lists them there.
    """
    named = _named(name)
    path = folder_paths.get_full_path(key, named)
    if path is None:
        path = folder_paths.get_full_path(key, "/".join(parts_of(named)))
    if path is None:
        places = os.pathsep.join(folder_paths.get_folder_paths(key))
        if not name:
            raise CheckpointError(
                f"No file is chosen. Put one into {places}, press R to refresh the list and choose "
                "it."
            )
        remedy = _how_to_install(name, key) or "Put the file there"
        raise CheckpointError(
            f"{remedy}, then press R to refresh the list. There is no file {name!r} in {places}."
        )
    return Path(path)


def _how_to_install(name: str, key: str) -> str:
    """How to get what is published under a name that `key` lacks; "" if nothing is."""
    entry = published(name)
    if not isinstance(entry, ZooLora if key == LORAS else ZooModel):
        return ""
    place = LORAS if key == LORAS else CHECKPOINTS
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(place)]
    found = find_places(PACK, os.environ).folders(place)
    command = install_command(entry.name, None if set(found) & set(folders) else folders[0])
    whole = key in (DIFFUSION_MODELS, VAES)
    return how_to_install(entry.name, command=command, node=True) + (
        ", and load the whole folder with EasyAnimate Load Checkpoint" * whole
    )


def check_file(key: str, name: str | None) -> bool | str:
    """True, or what is wrong with a file's name; None if another node provides it."""
    try:
        if name is not None:
            find_file(key, name)
    except CheckpointError as error:
        return str(error)
    return True


def check_lora(name: str | None) -> bool | str:
    """True, or what is wrong with a LoRA's name; None if another node provides it."""
    try:
        if name is not None:
            find_lora(name)
    except CheckpointError as error:
        return str(error)
    return True


def _listed(name: str) -> str:
    """A file's name as an option of a widget."""
    return name.replace(*_NO_TAG)


def _named(option: str) -> str:
    """The file's name, from an option or the name itself."""
    return option.replace(*reversed(_NO_TAG))
