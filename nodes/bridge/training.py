"""Training in ComfyUI, with its memory management, folders, progress bar and Cancel."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
from PIL import Image

from ...easyanimate_core.errors import HeldError, InputError, MediaError
from ...easyanimate_core.files import (
    atomic_file,
    cache_folder,
    check_writable,
    temporary_cache,
)
from ...easyanimate_core.files.names import file_stem, free_name
from . import notes
from .paths import LORAS
from .progress import NodeProgress

_LOG = logging.getLogger(__name__)

#: Inside the pack's cache folder: states of runs, and the cache of latents and captions.
WORK_FOLDER = "training"
#: Inside ComfyUI's output folder, where earlier versions kept them.
OLD_FOLDER = "EasyAnimate_training"
ENDING = ".safetensors"


class NodeWatch:
    """The node as the host of a run: it shows its lines and samples and remembers the last LoRA."""

    def __init__(self, node_id: str | None) -> None:
        self.last: tuple[int, Path] | None = None
        self._node_id = node_id
        self._progress = NodeProgress()
        self._lines: list[str] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report `done` of `total` units of `stage`."""
        self._progress(stage, done, total)

    def tell(self, line: str, *, first: bool = False) -> None:
        """Show a line of the run after the others, or before them."""
        self._lines.insert(0 if first else len(self._lines), line)
        notes.show(self._node_id, "\n".join(self._lines))

    def saved(self, step: int, lora: Path) -> None:
        """Remember the LoRA."""
        self.last = step, lora

    def sampled(self, step: int, sheet: Any) -> None:
        """Show the sample."""
        del step  # it is written on the sheet
        picture = sheet[0].clamp(0, 1).mul(255).round().byte().cpu().numpy()
        self._progress.show(Image.fromarray(picture))


def train_and_save(job: Any, name: str, node_id: str | None) -> tuple[str, Any, str]:
    """Train a `LoraJob` and save the LoRA in ComfyUI's first LoRA folder, if it is cancelled too.

    All models that ComfyUI has on the GPU are unloaded first. Existing files are never replaced:
    the name gets a number. Returns the file's name, the curves and the report.

    Raises:
        InputError: The name is invalid, or `train_lora` raises it.
    """
    from ...easyanimate_core.training.lora_run import train_lora

    stem = file_stem(name, ENDING, what="the LoRA")
    work, note = work_folder()
    device = comfy.model_management.get_torch_device()
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    on_card = device.type != "cpu"
    fits = on_card and comfy.model_management.should_use_bf16(device)
    watch = NodeWatch(node_id)
    try:
        result = train_lora(
            job,
            work,
            precision="bf16" if fits else "no",
            cpu=not on_card,
            progress=watch,
            report=watch.tell,
        )
    except comfy.model_management.InterruptProcessingException:
        if watch.last is not None:
            _keep_cancelled(watch, stem, job.steps)
        raise
    finally:
        comfy.model_management.soft_empty_cache()
    file, held = _copy(result.file, stem)
    lines = [str(file), result.report, *held]
    old = Path(folder_paths.get_output_directory()) / OLD_FOLDER
    if old.is_dir():
        lines.append(f"{old} is from an earlier version and no longer used; it can be deleted.")
    if note is not None:
        lines.append(note)
    return file.name, result.curves, "\n".join(lines)


def _keep_cancelled(watch: NodeWatch, stem: str, steps: int) -> None:
    """Save the LoRA of a cancelled run under a name with its step."""
    assert watch.last is not None
    step, lora = watch.last
    file, held = _copy(lora, f"{stem}_step{step}")
    said = f"Cancelled after step {step} of {steps}. The LoRA so far is {file}. "
    said += "Run it again with the same images and settings to resume."
    for line in (*held, said):
        watch.tell(line, first=True)
        _LOG.info("%s", line)


def is_name(name: str | None) -> bool | str:
    """True, or what is wrong with a LoRA's name; None if another node provides it."""
    try:
        if name is not None:
            file_stem(name, ENDING, what="the LoRA")
    except InputError as error:
        return str(error)
    return True


def work_folder() -> tuple[Path, str | None]:
    """The folder of runs, which no request to ComfyUI can read or write, and a note about it.

    Raises:
        InputError: The pack's cache is inside a folder that requests can reach.
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
                f"Training states would be stored in {folder}, but anyone who can reach this "
                f"ComfyUI may read or write files in {place}. Set the environment variable "
                "EASYANIMATE_CACHE to a folder outside of it and restart ComfyUI."
            )
    try:
        check_writable(folder)
    except MediaError as error:
        return temporary_cache() / WORK_FOLDER, (
            f"The state is lost when ComfyUI exits: {error} Set the environment variable "
            "EASYANIMATE_CACHE to a writable folder."
        )
    return folder, None


def _copy(trained: Path, stem: str) -> tuple[Path, list[str]]:
    """Copy atomically to ComfyUI's first LoRA folder: `stem.safetensors`, `stem_2.safetensors` ...

    Also returns notes, in case a virus scanner forced yet another name.
    """
    folder = Path(folder_paths.get_folder_paths(LORAS)[0])
    taken = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    path = folder / free_name(stem, ENDING, taken)
    try:
        with atomic_file(path) as scratch:
            shutil.copyfile(trained, scratch)
    except HeldError as error:
        return error.kept, [str(error)]
    return path, []
