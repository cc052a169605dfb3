"""Where files lie: ComfyUI's model folders, extra_model_paths included."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...easyanimate_core.errors import CheckpointError
from ...easyanimate_core.files import parts_of
from ...easyanimate_core.files.commands import own_command
from ...easyanimate_core.small_model import NAMES, is_installed, small_checkpoint

#: Key of folders that hold whole checkpoints, and folders of ComfyUI's that may hold some.
CHECKPOINTS = "EasyAnimate"
#: Key of folders that hold embeddings of prompts.
EMBEDDINGS = "EasyAnimate_embeddings"
_CHECKPOINT_KEYS = (CHECKPOINTS, "diffusers", "diffusion_models", "checkpoints")

DIFFUSION_MODELS, TEXT_ENCODERS, VAES, LORAS = (
    "diffusion_models",
    "text_encoders",
    "vae",
    "loras",
)
#: The menus of ComfyUI 0.8's frontend take names for HTML, which this keeps a tag from being. It
#: is not seen.
_NO_TAG = ("<", "<\N{WORD JOINER}")


def register_folders() -> None:
    """Make `models/EasyAnimate` known; paths of extra_model_paths.yaml come before it.

    Embeddings lie in `models/EasyAnimate_embeddings`, and where they are saved: ComfyUI, too, finds
    models that its own nodes have saved in the output folder.
    """
    models, output = Path(folder_paths.models_dir), Path(folder_paths.get_output_directory())
    for key, root in ((CHECKPOINTS, models), (EMBEDDINGS, models), (EMBEDDINGS, output)):
        folder_paths.add_model_folder_path(key, str(root / key))


def list_checkpoints() -> list[str]:
    """Names of checkpoint folders (those with transformer/ and vae/), at most two levels deep.

    The small model of the pack, where it came with it, stands at the end: there is always one.
    """
    built_in = list(NAMES) if is_installed() else []
    return [*sorted({_listed(name) for name, _ in _checkpoints()}), *built_in]


def find_checkpoint(name: str) -> Path:
    """The folder of a name of `list_checkpoints`."""
    if name in NAMES:
        return small_checkpoint(NAMES[name])
    found = next((path for known, path in _checkpoints() if known == _named(name)), None)
    if found is None:
        raise CheckpointError(
            f"There is no checkpoint folder {name!r}. Put EasyAnimate folders into "
            f"{Path(folder_paths.models_dir) / CHECKPOINTS} (or a path of extra_model_paths.yaml "
            f"under {CHECKPOINTS}), then press R to refresh the list. What can be fetched is shown "
            f"by: {own_command('download', '--list')}"
        )
    return found


def check_checkpoint(name: str | None) -> bool | str:
    """True, or what is wrong with a checkpoint's name; there is none yet where a node gives it."""
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
            for pattern in ("*", "*/*"):
                folders = [f for f in root.glob(pattern) if _is_checkpoint(f)]
                found += [(folder.relative_to(root).as_posix(), folder) for folder in folders]
    return found


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "transformer").is_dir() and (folder / "vae").is_dir()


def list_files(key: str) -> list[str]:
    """Names of the safetensors files in one of ComfyUI's folders."""
    return [_listed(name) for name in _file_names(key) if name.lower().endswith(".safetensors")]


def _file_names(key: str) -> list[str]:
    try:
        return folder_paths.get_filename_list(key)
    except FileNotFoundError:  # ComfyUI asks its last answer's folders for their times
        folder_paths.filename_list_cache.pop(key, None)
        return folder_paths.get_filename_list(key)


def list_denoisers() -> list[str]:
    """Names of the safetensors and GGUF files in models/diffusion_models."""
    gguf = []  # ComfyUI's own list has no GGUF
    for root in folder_paths.get_folder_paths(DIFFUSION_MODELS):
        names, _ = folder_paths.recursive_search(root)
        gguf += [_listed(name) for name in names if name.lower().endswith(".gguf")]
    return sorted({*list_files(DIFFUSION_MODELS), *gguf})


def find_file(key: str, name: str) -> Path:
    r"""The file of a name of `list_files` or `list_denoisers`.

    ComfyUI lists names with `\` on Windows: a workflow that was saved there has them.
    """
    named = _named(name)
    path = folder_paths.get_full_path(key, named)
    if path is None:
        path = folder_paths.get_full_path(key, "/".join(parts_of(named)))
    if path is None:
        places = os.pathsep.join(folder_paths.get_folder_paths(key))
        raise CheckpointError(
            f"There is no file {name!r} in {places}. Put it there and press R to refresh the list."
        )
    return Path(path)


def check_file(key: str, name: str | None) -> bool | str:
    """True, or what is wrong with a file's name; there is none yet where a node gives it."""
    try:
        if name is not None:
            find_file(key, name)
    except CheckpointError as error:
        return str(error)
    return True


def _listed(name: str) -> str:
    """A file's name as an option of a widget."""
    return name.replace(*_NO_TAG)


def _named(option: str) -> str:
    """The file's name of an option, or of itself."""
    return option.replace(*reversed(_NO_TAG))
