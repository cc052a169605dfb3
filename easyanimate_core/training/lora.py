"""A LoRA trained on top of a denoiser's frozen layers, and its file format.

The file uses kohya's names, which every reader knows, ComfyUI's own loaders included:
`lora_unet_transformer_blocks_0_attn1_to_q.lora_down.weight`, `.lora_up.weight` and `.alpha`. The
original's trainer writes two underscores after `lora_unet`, which ComfyUI's loaders ignore.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import atomic_file, save_tensors
from ..weights.files import read_tensor_files
from ..weights.lora.names import KOHYA
from .config import LoraConfig

_BRANCH = "lora"
_LAYERS = {
    "attention": (".to_q", ".to_k", ".to_v", ".to_out.0"),
    "feed_forward": (".net.0.proj", ".net.2"),
}


class LoraBranch(nn.Module):
    """`scale * up(down(x))`, added to a linear layer; `up` starts at zero and changes nothing."""

    def __init__(self, layer: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        device = layer.weight.device
        bound = math.sqrt(3 / layer.in_features)
        down = torch.empty(config.rank, layer.in_features)
        down.uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(layer.out_features, config.rank, device=device))
        self.scale = config.alpha / config.rank
        self.is_on = True

    def forward(self, x: Tensor) -> Tensor:
        """The term that is added to the layer's output."""
        return F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype)) * self.scale


def add_lora(network: nn.Module, config: LoraConfig, *, seed: int) -> tuple[str, ...]:
    """Add a branch to every layer that `config.layers` names; returns those layers.

    The branches become part of the network and hold its only trainable parameters.

    Raises:
        CheckpointError: `config.start` is no LoRA of these layers and this rank.
    """
    generator = torch.Generator().manual_seed(seed)
    endings = tuple(end for kind in config.layers for end in _LAYERS[kind])
    changed = []
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Linear) and f".{name}".endswith(endings) and "blocks." in name:
            branch = LoraBranch(layer, config, generator)
            layer.add_module(_BRANCH, branch)
            layer.register_forward_hook(_add_branch)
            changed.append(name)
    if config.start is not None:
        _begin_with(network, config, config.start)
    return tuple(changed)


def _begin_with(network: nn.Module, config: LoraConfig, file: Path) -> None:
    """Fill the branches from a file of `write_lora`."""
    tensors = read_tensor_files(file).read()
    branches = {name: tensor for name, tensor in network.state_dict().items() if _is_branch(name)}
    wanted = _named(branches, config)
    shapes = [{name: tuple(t.shape) for name, t in each.items()} for each in (wanted, tensors)]
    if shapes[0] != shapes[1]:
        differing = min(name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items()))
        raise CheckpointError(
            f"{file} (model.lora.start) is no LoRA of rank {config.rank} of the layers that are "
            f"trained: they differ in {differing}. Set model.lora.rank and layers to those of the "
            "file, or omit start."
        )
    for name, tensor in wanted.items():
        if name.endswith(".alpha") and float(tensors[name]) != config.alpha:
            raise CheckpointError(
                f"{file} (model.lora.start) has an alpha of {float(tensors[name]):g}, and "
                f"model.lora.alpha is {config.alpha:g}. Set it to that."
            )
        tensor.copy_(tensors[name])


@contextmanager
def without_lora(network: nn.Module) -> Iterator[None]:
    """Inside the `with` block, the network computes what it did before `add_lora`."""
    branches = [module for module in network.modules() if isinstance(module, LoraBranch)]
    for branch in branches:
        branch.is_on = False
    try:
        yield
    finally:
        for branch in branches:
            branch.is_on = True


def write_lora(
    weights: Mapping[str, Tensor], config: LoraConfig, header: Mapping[str, str], path: Path
) -> None:
    """Write the branches of `add_lora` from a state dict to a LoRA file with this metadata.

    Raises:
        MediaError: The file cannot be written.
    """
    tensors = {n: t.detach().cpu().contiguous() for n, t in _named(weights, config).items()}
    with atomic_file(path) as scratch:
        save_tensors(scratch, tensors, header)


def _is_branch(name: str) -> bool:
    return f".{_BRANCH}." in name


def _named(weights: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """The branches in a state dict, by their names in a file."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if _is_branch(name):
            layer, _, part = name.rpartition(f".{_BRANCH}.")
            file_layer = KOHYA + layer.replace(".", "_")
            tensors[f"{file_layer}.lora_{part}.weight"] = tensor
            tensors[f"{file_layer}.alpha"] = torch.tensor(float(config.alpha))
    return tensors


def _add_branch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    branch = layer.get_submodule(_BRANCH)
    return output + branch(inputs[0]) if branch.is_on else output
