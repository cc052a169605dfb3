"""Downloads in ComfyUI, with its folders, progress bar and Cancel."""

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
    """Whether a published model is complete, judging from the files on disk."""
    return model_state(find_model(name), _folders()) == "whole"


def fetch_model(name: str, source: str, *, allowed: bool) -> str:
    """Download a published model if `allowed`; returns what was, or would be, done.

    Raises:
        DownloadError: The hub cannot be reached, the disk is full, or a received file is wrong.
    """
    model = find_model(name)
    repository = SOURCES[source]().open(model.repo(source))
    wanted = find_missing(
        repository, target_folder(name, _folders()), model_files(repository.files)
    )
    facts = f"Licence: {model.licence}. Graphics memory, as published: {model.memory}."
    if not allowed:
        return f"{wanted.summary}. {facts} Nothing was downloaded: turn on allow_download first."
    said: list[str] = []
    download(wanted, _Messages(), said.append)
    return "\n".join([f"{wanted.summary}. {facts}", *said, f"{name} is complete: {wanted.folder}"])


def _folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths(CHECKPOINTS)]


class _Messages:
    """A `Progress` that reacts to Cancel at once and updates the frontend ten times a second."""

    def __init__(self) -> None:
        self._node = NodeProgress()
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if done >= total or time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            self._node(stage, done, total)
