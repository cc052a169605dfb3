"""Detectors in ComfyUI: its folders, its device, its progress, and results kept between runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import comfy.model_management
import folder_paths
from torch import Tensor

from ...easyanimate_core.preprocess import Detection, ResultCache, preprocess
from .progress import NodeProgress

#: Key of the folders with detectors' weights.
DETECTORS = "controlnet_aux"

#: Where the pack comfyui_controlnet_aux keeps what it has downloaded, in its own folder.
_OTHER_PACK = "comfyui_controlnet_aux/ckpts"


def register_folder() -> None:
    """Make `models/controlnet_aux` known; paths of extra_model_paths.yaml come before it."""
    folder_paths.add_model_folder_path(DETECTORS, str(Path(folder_paths.models_dir) / DETECTORS))


def weight_folders() -> list[Path]:
    """The folders to search, in order."""
    own = [Path(folder) for folder in folder_paths.get_folder_paths(DETECTORS)]
    packs = folder_paths.get_folder_paths("custom_nodes")
    others = [Path(folder) / _OTHER_PACK for folder in packs]
    return own + [folder for folder in others if folder.is_dir()]


def detect(frames: Tensor, detection: Detection, size: tuple[int, int]) -> Tensor:
    """The control signal of `frames` at `size` (height, width), made on ComfyUI's device."""
    return preprocess(
        frames.float(),
        detection,
        weights=weight_folders(),
        device=comfy.model_management.get_torch_device(),
        size=size,
        cache=_results(),
        progress=NodeProgress(),
    )


@cache
def _results() -> ResultCache:
    """Made once: a node has no object of its own between runs."""
    return ResultCache()
