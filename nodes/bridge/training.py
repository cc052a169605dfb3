"""Training in ComfyUI: its memory, its folders, its progress bar, its Cancel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths

from ...easyanimate_core.errors import InputError
from .paths import LORAS
from .progress import NodeProgress

#: Below ComfyUI's output folder: states of runs, and the cache of latents and captions.
WORK_FOLDER = "EasyAnimate_training"
_FORBIDDEN = set('/\\:*?"<>|')


def train_and_save(job: Any, name: str) -> tuple[str, Any, str]:
    """Train a `LoraJob` and put the LoRA into ComfyUI's first folder of LoRAs.

    Everything that ComfyUI holds on the card is unloaded first. An existing file is never
    replaced: the name gets a number. Returns the file's name, the curves and the report.

    Raises:
        InputError: The name is none, or what `train_lora` refuses.
    """
    from ...easyanimate_core.training.lora_run import train_lora

    check_name(name)
    device = comfy.model_management.get_torch_device()
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    on_card = device.type != "cpu"
    fits = on_card and comfy.model_management.should_use_bf16(device)
    try:
        result = train_lora(
            job,
            Path(folder_paths.get_output_directory()) / WORK_FOLDER,
            precision="bf16" if fits else "no",
            cpu=not on_card,
            progress=NodeProgress(),
        )
    finally:
        comfy.model_management.soft_empty_cache()
    file = _copy(result.file, Path(folder_paths.get_folder_paths(LORAS)[0]), name)
    return file.name, result.curves, f"{file}\n{result.report}"


def check_name(name: str) -> None:
    """Raise `InputError` unless `name` can be a file's name."""
    bare = name.removesuffix(".safetensors").strip()
    if not bare or bare.startswith(".") or _FORBIDDEN & set(bare):
        raise InputError(
            f"The name of the LoRA is {name!r}; give a file name without a folder, such as "
            "my_style."
        )


def _copy(trained: Path, folder: Path, name: str) -> Path:
    """`name.safetensors` in `folder`, or `name_2.safetensors` and so on; whole or not there."""
    from ...easyanimate_core.media import atomic_file

    bare = name.removesuffix(".safetensors").strip()
    path, number = folder / f"{bare}.safetensors", 1
    while path.exists():
        number += 1
        path = folder / f"{bare}_{number}.safetensors"
    with atomic_file(path) as scratch:
        shutil.copyfile(trained, scratch)
    return path
