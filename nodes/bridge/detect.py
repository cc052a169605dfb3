"""Detectors in ComfyUI: its folders, device and progress, and results cached between runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import comfy.model_management
import folder_paths
from torch import Tensor

from ...easyanimate_core.preprocess import Detection, ResultCache, preprocess
from .progress import NodeProgress

#: Key of the folders with detector weights.
DETECTORS = "controlnet_aux"

#: Where the pack comfyui_controlnet_aux keeps its downloads, inside its own folder.
_OTHER_PACK = "comfyui_controlnet_aux/ckpts"


def register_folder() -> None:
    """Register `models/controlnet_aux`, after the paths of extra_model_paths.yaml."""
    folder_paths.add_model_folder_path(DETECTORS, str(Path(folder_paths.models_dir) / DETECTORS))


def weight_folders() -> list[Path]:
    """The folders to search, in order."""
    own = [Path(folder) for folder in folder_paths.get_folder_paths(DETECTORS)]
    packs = folder_paths.get_folder_paths("custom_nodes")
    others = [Path(folder) / _OTHER_PACK for folder in packs]
    return own + [folder for folder in others if folder.is_dir()]


def detect(frames: Tensor, detection: Detection, size: tuple[int, int]) -> Tensor:
    """The control signal of `frames` at `size` (height, width), computed on ComfyUI's device."""
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
    """The shared cache, because nodes have no state between runs."""
    return ResultCache()
