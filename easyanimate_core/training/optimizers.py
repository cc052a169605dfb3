"""Optimisers and the learning rate's course."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..errors import InputError
from .config import OptimizerConfig

#: Where the matrices that Muon changes lie: inside the blocks.
_BLOCKS = "transformer_blocks."


def make_optimizers(config: OptimizerConfig, network: nn.Module) -> list[torch.optim.Optimizer]:
    """One optimiser, or with Muon two: matrices inside blocks, and the rest by AdamW.

    Raises:
        InputError: The kind needs a package or a PyTorch that is not there.
    """
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if config.kind == "adamw8bit":
        return [_adamw8bit(config, [p for _, p in named])]
    if config.kind == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise InputError(
                f"optimizer.kind is muon and PyTorch is {torch.__version__}; Muon needs PyTorch "
                "2.9. Install that, or use adamw."
            )
        matrices = [p for name, p in named if p.ndim == 2 and _BLOCKS in name]
        chosen = {id(p) for p in matrices}
        named = [(name, p) for name, p in named if id(p) not in chosen]
        muon = torch.optim.Muon(
            matrices, lr=config.matrix_learning_rate, weight_decay=config.weight_decay
        )
        return [muon, _adamw(config, [p for _, p in named])]
    return [_adamw(config, [p for _, p in named])]


def _adamw(config: OptimizerConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        _groups(config, parameters), lr=config.learning_rate, betas=config.betas, eps=config.eps
    )


def _adamw8bit(config: OptimizerConfig, parameters: Sequence[nn.Parameter]) -> Any:
    try:
        import bitsandbytes
    except ImportError as error:
        raise InputError(
            "optimizer.kind is adamw8bit and the package bitsandbytes is not installed. "
            "`pip install bitsandbytes` (it needs a CUDA device), or use adamw."
        ) from error
    return bitsandbytes.optim.AdamW8bit(
        _groups(config, parameters), lr=config.learning_rate, betas=config.betas, eps=config.eps
    )


def _groups(config: OptimizerConfig, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Norms and biases are not pulled towards zero."""
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_schedule(
    config: OptimizerConfig, optimizer: torch.optim.Optimizer, steps: int
) -> LambdaLR:
    """Linear warm-up, then constant, or down to zero at `steps` (linear, cosine)."""

    def factor(step: int) -> float:
        if step < config.warmup:
            return (step + 1) / config.warmup
        if config.schedule == "constant":
            return 1.0
        share = min(1.0, (step - config.warmup) / max(1, steps - config.warmup))
        return 1 - share if config.schedule == "linear" else (1 + math.cos(math.pi * share)) / 2

    return LambdaLR(optimizer, factor)
