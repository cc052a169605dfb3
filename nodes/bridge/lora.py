"""Applies LoRA files to a MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora
import torch
from torch import Tensor

from ...easyanimate_core.errors import CheckpointError, InputError, counted
from ...easyanimate_core.files.commands import own_command
from ...easyanimate_core.weights.lora import BlockStrengths, Lora, LoraLayer, read_lora
from .denoiser import denoiser_info

_PREFIX = "diffusion_model."
#: ComfyUI's names of a layer's parts, where they differ from the core's.
_NAMES = {"down": "lora_down.weight", "up": "lora_up.weight", "difference": "diff"}


def with_lora(
    model: Any, file: Path, strength: float, *, partial: bool, blocks: str = ""
) -> tuple[Any, str]:
    """A MODEL with the LoRA added to its patches, and a report.

    The weights of `model` are unchanged: ComfyUI applies patches when it loads a model. `blocks`
    are factors on the strength per block, such as "0-17=0.5,18-35=1". The core reads and checks the
    file, as on the command line; the arithmetic is ComfyUI's.

    Raises:
        CheckpointError: The file fits no layer or another model, or is only partly supported.
        InputError: The model is not EasyAnimate's, or it does not have the blocks.
    """
    info = denoiser_info(model)
    if info is None:
        raise InputError(
            f"The model is a {type(model.model).__name__}, not EasyAnimate's. Use ComfyUI's "
            "Load LoRA for it."
        )
    factors = BlockStrengths.parse(blocks)
    factors.check(info.transformer.num_layers)
    base = (info.transformer.version, info.transformer.head)
    read = read_lora(Lora(file, strength, blocks, partial), _matrix_shapes(model), base)
    tensors: dict[str, Tensor] = {}
    for module, layer in read.layers.items():
        tensors |= {f"{module}.{name}": tensor for name, tensor in _for_comfyui(layer).items()}
    layers = {module: f"{_PREFIX}{module}.weight" for module in read.layers}
    patches = comfy.lora.load_lora(tensors, layers)
    patched = model.clone()
    changed = set()
    for key, patch in patches.items():
        module = key.removeprefix(_PREFIX).rpartition(".")[0]
        factor = strength * factors.factor(module)
        if not patched.add_patches({key: patch}, factor):
            raise CheckpointError(
                f"{file.name} changes {key}, which this model lacks. Choose the matching file."
            )
        if factor:
            changed.add(module)
    _check_taken(file, read.layers, patches)
    matched = _report(read.report(len(changed)), factors)
    return patched, "\n".join([matched, *read.card.lines()])


def _matrix_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the same layers as on the command line: those with a matrix."""
    return {
        name: tuple(module.weight.shape)
        for name, module in model.model.diffusion_model.named_modules()
        if getattr(module, "weight", None) is not None and len(module.weight.shape) == 2
    }


def _for_comfyui(layer: LoraLayer) -> dict[str, Tensor]:
    """A layer's tensors under names that even the oldest ComfyUI knows."""
    found = {_NAMES.get(name, name): tensor for name, tensor in layer.tensors.items()}
    if layer.rank is not None:
        found["alpha"] = torch.tensor(layer.scale * layer.rank)
    if layer.magnitude is not None:
        found["dora_scale"] = layer.magnitude
    if layer.bias is not None:
        found["diff_b"] = layer.bias
    return found


def _check_taken(file: Path, layers: dict[str, LoraLayer], patches: dict[str, Any]) -> None:
    wanted = {f"{_PREFIX}{name}.weight" for name, layer in layers.items() if layer.tensors}
    wanted |= {f"{_PREFIX}{n}.bias" for n, layer in layers.items() if layer.bias is not None}
    left = sorted(wanted - set(patches))
    if left:
        raise CheckpointError(
            f"ComfyUI only supports {len(wanted) - len(left)} of {counted(len(wanted), 'change')} "
            f"in {file.name}, without {left[0]}. Update ComfyUI, or merge the file into the model "
            f"on the command line: {own_command('merge-lora')}"
        )


def _report(matched: str, factors: BlockStrengths) -> str:
    if not factors.ranges:
        return matched
    shown = (
        f"{first} to {last} at {factor:g}" if last > first else f"{first} at {factor:g}"
        for first, last, factor in factors.ranges
    )
    return f"{matched} Blocks {', '.join(shown)} times the strength."
