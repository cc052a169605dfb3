"""Training in ComfyUI: its memory, its folders, its progress bar, its Cancel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths

from ...easyanimate_core.errors import HeldError, InputError, MediaError
from ...easyanimate_core.files import (
    atomic_file,
    cache_folder,
    check_writable,
    temporary_cache,
)
from ...easyanimate_core.files.names import file_stem, free_name
from .paths import LORAS
from .progress import NodeProgress

#: In the pack's cache folder: states of runs, and the cache of latents and captions.
WORK_FOLDER = "training"
#: In ComfyUI's output folder, where earlier versions kept them.
OLD_FOLDER = "EasyAnimate_training"
ENDING = ".safetensors"


def train_and_save(job: Any, name: str) -> tuple[str, Any, str]:
    """Train a `LoraJob` and put the LoRA into ComfyUI's first folder of LoRAs.

    Everything that ComfyUI holds on the card is unloaded first. An existing file is never
    replaced: the name gets a number. Returns the file's name, the curves and the report.

    Raises:
        InputError: The name is none, or what `train_lora` refuses.
    """
    from ...easyanimate_core.training.lora_run import train_lora

    stem = file_stem(name, ENDING, what="the LoRA")
    work, note = work_folder()
    device = comfy.model_management.get_torch_device()
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    on_card = device.type != "cpu"
    fits = on_card and comfy.model_management.should_use_bf16(device)
    try:
        result = train_lora(
            job,
            work,
            precision="bf16" if fits else "no",
            cpu=not on_card,
            progress=NodeProgress(),
        )
    finally:
        comfy.model_management.soft_empty_cache()
    file, held = _copy(result.file, Path(folder_paths.get_folder_paths(LORAS)[0]), stem)
    lines = [str(file), result.report, *held]
    old = Path(folder_paths.get_output_directory()) / OLD_FOLDER
    if old.is_dir():
        lines.append(f"Nothing is read from {old} of an earlier version any more; delete it.")
    if note is not None:
        lines.append(note)
    return file.name, result.curves, "\n".join(lines)


def is_name(name: str | None) -> bool | str:
    """True, or what is wrong with a LoRA's name; there is none yet where a node gives it."""
    try:
        if name is not None:
            file_stem(name, ENDING, what="the LoRA")
    except InputError as error:
        return str(error)
    return True


def work_folder() -> tuple[Path, str | None]:
    """Where runs are kept, which no request to ComfyUI reads or writes, and a note about it.

    Raises:
        InputError: The pack's cache lies in one of the folders that requests reach.
    """
    folder = cache_folder(WORK_FOLDER)
    reached = (
        folder_paths.get_input_directory(),
        folder_paths.get_output_directory(),
        folder_paths.get_temp_directory(),
        folder_paths.get_user_directory(),
        folder_paths.models_dir,
    )
    for place in map(Path, reached):
        if folder.resolve().is_relative_to(place.resolve()):
            raise InputError(
                f"States of training would lie in {folder}, and everybody who reaches this ComfyUI "
                f"may read or write files in {place}. Set the environment variable "
                "EASYANIMATE_CACHE to a folder outside of it and start ComfyUI again."
            )
    try:
        check_writable(folder)
    except MediaError as error:
        return temporary_cache() / WORK_FOLDER, (
            f"The state goes when ComfyUI ends: {error} Set the environment variable "
            "EASYANIMATE_CACHE to a folder that can be written."
        )
    return folder, None


def _copy(trained: Path, folder: Path, stem: str) -> tuple[Path, list[str]]:
    """`stem.safetensors` in `folder`, or `stem_2.safetensors` and so on; whole or not there.

    With it comes what is to be said, where a virus scanner gave it yet another name.
    """
    taken = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    path = folder / free_name(stem, ENDING, taken)
    try:
        with atomic_file(path) as scratch:
            shutil.copyfile(trained, scratch)
    except HeldError as error:
        return error.kept, [str(error)]
    return path, []
