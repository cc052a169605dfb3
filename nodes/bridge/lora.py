"""LoRA files onto a MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora

from ...easyanimate_core.checkpoint import read_tensor_files
from ...easyanimate_core.errors import InputError
from ...easyanimate_core.lora import BlockStrengths, match_lora
from .denoiser import denoiser_info

_PREFIX = "diffusion_model."


def with_lora(
    model: Any, file: Path, strength: float, *, partial: bool, blocks: str = ""
) -> tuple[Any, str]:
    """A MODEL with the LoRA added to its patches, and how many keys matched.

    The weights of `model` stay as they are: ComfyUI adds patches when it loads a model. `blocks`
    are factors on the strength by block, such as "0-17=0.5,18-35=1".

    Raises:
        CheckpointError: The file fits no layer, or another model's.
        InputError: The model is another's, or the blocks are none of its.
    """
    info = denoiser_info(model)
    if info is None:
        raise InputError(
            f"The model is a {type(model.model).__name__}, not EasyAnimate's. Use Load LoRA of "
            "ComfyUI for it."
        )
    factors = BlockStrengths.parse(blocks)
    factors.check(info.transformer.num_layers)
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
    lora = {f"{module}.{rest}": tensors[name] for name, (module, rest) in match.names.items()}
    layers = {module: f"{_PREFIX}{module}.weight" for module in match.modules}
    patches = comfy.lora.load_lora(lora, layers)
    patched = model.clone()
    for key, patch in patches.items():
        patched.add_patches({key: patch}, strength * factors.factor(key.removeprefix(_PREFIX)))
    return patched, _report(match.report(), factors)


def _report(matched: str, factors: BlockStrengths) -> str:
    if not factors.ranges:
        return matched
    shown = (
        f"{first} to {last} at {factor:g}" if last > first else f"{first} at {factor:g}"
        for first, last, factor in factors.ranges
    )
    return f"{matched} Blocks {', '.join(shown)} of the strength."
