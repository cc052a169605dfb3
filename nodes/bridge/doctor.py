"""The doctor inside ComfyUI: its device, attention, folders and memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import comfyui_version
import folder_paths
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ...easyanimate_core.doctor import Examination, Finding, Folders, Host, Section, fine
from ...easyanimate_core.doctor.room import SIZE as PLANNED_SIZE
from ...easyanimate_core.memory.plan import Job, Plan
from .model import compute_dtype
from .paths import MODEL_KEYS
from .planning import plan_run
from .progress import NodeProgress


def examine(*, quick: bool, hashes: bool) -> tuple[Section, ...]:
    """Examine this machine as ComfyUI uses it."""
    device = comfy.model_management.get_torch_device()
    examination = Examination(
        _folders(),
        str(device),
        str(compute_dtype(device)).removeprefix("torch."),
        quick=quick,
        hashes=hashes,
        host=Host("ComfyUI", _findings, _attention, _plan),
        progress=NodeProgress(),
        comfyui=comfyui_version.__version__,
    )
    return tuple(examination.sections())


def _findings() -> Iterator[Finding]:
    management: Any = comfy.model_management
    device = management.get_torch_device()
    yield fine(f"device: {management.get_torch_device_name(device)}")
    yield fine(f"memory of the device: {_sizes(device)}")
    yield fine(f"VRAM state: {management.vram_state.name}")
    yield fine(f"models on the device: {len(management.current_loaded_models)}")
    yield fine(f"attention: {optimized_attention.__name__}")
    dtypes = {
        "denoiser": compute_dtype(device),
        "text encoder": management.text_encoder_dtype(device),
        "VAE": management.vae_dtype(device),
    }
    told = ", ".join(
        f"{name} {str(dtype).removeprefix('torch.')}" for name, dtype in dtypes.items()
    )
    yield fine(f"dtypes: {told}")
    yield fine(f"options: {' '.join(sys.argv[1:]) or 'none'}")


def _sizes(device: torch.device) -> str:
    total = comfy.model_management.get_total_memory(device)
    free = comfy.model_management.get_free_memory(device)
    return f"{total / 1e9:.1f} GB, of which {free / 1e9:.1f} GB are free"


def _attention(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    found: Tensor = optimized_attention(q_BHND, k_BHND, v_BHND, q_BHND.shape[1], skip_reshape=True)
    return found


def _plan(folder: Path) -> Plan:
    height, width, frames = PLANNED_SIZE
    return plan_run(folder, Job(height, width, frames), 0, 0)


def _folders() -> Folders:
    known = folder_paths.folder_names_and_paths
    models = {
        key: [Path(path) for path in folder_paths.get_folder_paths(key)]
        for key in MODEL_KEYS
        if key in known
    }
    written = {
        "output": Path(folder_paths.get_output_directory()),
        "temp": Path(folder_paths.get_temp_directory()),
    }
    return Folders(models, written)
