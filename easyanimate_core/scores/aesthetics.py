"""LAION's aesthetic scores: linear layers after a picture's CLIP embedding."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..weights.files import read_tensor_files


class Head:
    """Linear layers, one after the other, from an embedding [N, D] to a score of about 1 to 10."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    def __call__(self, embeddings_ND: Tensor) -> Tensor:
        """The scores [N]."""
        x = embeddings_ND
        for weight, bias in self._layers:
            x = torch.addmm(bias.to(x), x, weight.to(x).T)
        return x[:, 0]


def read_head(file: Path, size: int) -> Head:
    """The head for embeddings of `size` values, from .safetensors, .pth or .pt.

    Known are the single layer (`weight`, `bias`) and the improved predictor, a chain of layers
    without activations (`layers.0.weight`, ...).

    Raises:
        CheckpointError: The file is damaged, or its layers do not fit each other or the CLIP.
    """
    tensors = read_tensor_files(file, pickles=True).read()
    weights = sorted(
        (name for name in tensors if name.endswith("weight")),
        key=lambda name: [int(part) for part in name.split(".") if part.isdecimal()],
    )
    layers = []
    inputs = size
    for name in weights:
        weight, bias = tensors[name], tensors.get(f"{name.removesuffix('weight')}bias")
        if weight.ndim != 2 or weight.shape[1] != inputs or bias is None or bias.ndim != 1:
            break
        layers.append((weight.float(), bias.float()))
        inputs = len(weight)
    if not layers or inputs != 1 or 2 * len(layers) != len(tensors):
        shapes = {name: tuple(tensors[name].shape) for name in list(tensors)[:8]}
        raise CheckpointError(
            f"{file} contains {shapes}; an aesthetic head of this CLIP must be linear layers from "
            f"{size} values to 1. Use LAION's for ViT-L/14, or the CLIP that it was trained on."
        )
    return Head(layers)
