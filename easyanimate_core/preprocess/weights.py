"""Finds and loads detector weights. Nothing is ever downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files.commands import own_command
from .kinds import Kind, Value, WeightFile

#: File names common to many repositories: only accepted in a folder named after the repository.
_SHARED_NAMES = ("config.json", "model.safetensors")


def locate(file: WeightFile, folders: Sequence[Path]) -> Path | None:
    """Find a file in one of `folders` or in the Hugging Face cache; None if it is missing.

    A folder may have it at REPOSITORY/FILE, with or without the owner's name, or directly.
    """
    from huggingface_hub import try_to_load_from_cache

    places = [file.repo, file.repo.split("/")[-1]]
    if file.name not in _SHARED_NAMES:
        places.append(".")
    for folder in folders:
        for place in places:
            path = Path(folder, place, file.name)
            if path.is_file():
                return path
    cached = try_to_load_from_cache(file.repo, file.name)
    return Path(cached) if isinstance(cached, str) else None


def find_weights(
    kind: Kind, options: Mapping[str, Value], folders: Sequence[Path]
) -> dict[str, Path]:
    """Paths of the files that `kind` needs, by name; `CheckpointError` lists missing files.

    `options` must be complete. `folders` are searched in order.
    """
    needed = kind.needed_files(options)
    found = {file.name: locate(file, folders) for file in needed}
    missing = [file for file in needed if found[file.name] is None]
    if missing:
        searched = [os.fspath(folder) for folder in folders]
        target = searched[0] if searched else "models/controlnet_aux"
        lines = [
            f"{kind.display_name} needs {file.name} of https://huggingface.co/{file.repo}: put it "
            f"into {Path(target, file.repo)}."
            for file in missing
        ]
        choices = [options[o.name] for o in kind.options if o.choices]
        named = ":".join([kind.name, *map(str, choices)])
        where = ", ".join([*searched, "the Hugging Face cache"])
        command = own_command("download", "--annotators", named, "--to", target)
        raise CheckpointError(" ".join([*lines, f"Searched: {where}. Download with: {command}"]))
    return {name: path for name, path in found.items() if path is not None}


def load_into(build: Callable[[], Any], state: Mapping[str, Any], path: Path) -> Any:
    """Build a network with exactly the tensors of `state`, ready to run.

    It is built on the meta device: random initialization takes 4 of 5 seconds for MiDaS.
    """
    import torch

    with torch.device("meta"):
        network = build()
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise CheckpointError(
            f"{path} does not fit {type(network).__name__}: {' '.join(lines)[:400]} Use the file "
            "from the repository of this kind."
        ) from error
    return network.float().eval().requires_grad_(requires_grad=False)
