"""LoRA files onto a MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd

from ...easyanimate_core.checkpoint import read_tensor_files
from ...easyanimate_core.errors import InputError
from ...easyanimate_core.lora import match_lora
from .denoiser import denoiser_info

_PREFIX = "diffusion_model."


def with_lora(model: Any, file: Path, strength: float, *, partial: bool) -> tuple[Any, str]:
    """A MODEL with the LoRA added to its patches, and how many keys matched.

    The weights of `model` stay as they are: ComfyUI adds patches when it loads a model.

    Raises:
        CheckpointError: The file fits no layer, or another model's.
    """
    if denoiser_info(model) is None:
        raise InputError(
            f"The model is a {type(model.model).__name__}, not EasyAnimate's. Use Load LoRA of "
            "ComfyUI for it."
        )
    files = read_tensor_files(file)
    network = model.model.diffusion_model
    modules = {
        name: tuple(module.weight.shape)
        for name, module in network.named_modules()
        if getattr(module, "weight", None) is not None
    }
    match = match_lora(files, modules)
    shapes = {name: info.shape for name, info in files.items()}
    shapes |= {f"{name}.weight": shape for name, shape in modules.items()}
    match.check(file.name, shapes, partial=partial)
    tensors = files.map()
    lora = {
        f"{_PREFIX}{module}.{rest}": tensors[name] for name, (module, rest) in match.names.items()
    }
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora, strength, 0)
    return patched, match.report()
