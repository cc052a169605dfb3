"""Downloads in ComfyUI: its folders, its progress bar, its Cancel."""

from __future__ import annotations

import time
from pathlib import Path

import comfy.model_management
import folder_paths

from ...easyanimate_core.hub import (
    SOURCES,
    download,
    find_missing,
    find_model,
    model_files,
    model_state,
    target_folder,
)
from .paths import CHECKPOINTS
from .progress import NodeProgress

#: Seconds between messages to the frontend.
_INTERVAL = 0.1


def is_whole(name: str) -> bool:
    """Whether nothing of a model of the zoo is missing, as far as the disk tells."""
    return model_state(find_model(name), _folders()) == "whole"


def fetch_model(name: str, source: str, *, allowed: bool) -> str:
    """Fetch a model of the zoo where it is `allowed`; what was done, or what would be.

    Raises:
        DownloadError: The hub cannot be read, the disk is too small, or what arrives is wrong.
    """
    model = find_model(name)
    repository = SOURCES[source]().open(model.repo(source))
    wanted = find_missing(
        repository, target_folder(name, _folders()), model_files(repository.files)
    )
    facts = f"Licence: {model.licence}. Graphics memory, as published: {model.memory}."
    if not allowed:
        return f"{wanted.summary}. {facts} Nothing was fetched: turn on allow_download to fetch it."
    said: list[str] = []
    download(wanted, _Messages(), said.append)
    return "\n".join([f"{wanted.summary}. {facts}", *said, f"{name} is whole: {wanted.folder}"])


def _folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths(CHECKPOINTS)]


class _Messages:
    """A `Progress` that notices a cancel at once and tells the frontend ten times a second."""

    def __init__(self) -> None:
        self._node = NodeProgress()
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if done >= total or time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            self._node(stage, done, total)
