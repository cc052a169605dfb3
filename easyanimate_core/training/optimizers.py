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


def make_optimizer(config: OptimizerConfig, network: nn.Module) -> torch.optim.Optimizer:
    """AdamW over what is trainable, or its 8-bit form.

    Raises:
        InputError: The kind needs a package that is not installed.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    kind = torch.optim.AdamW if config.kind == "adamw" else _adamw8bit()
    return kind(
        _groups(config, parameters), lr=config.learning_rate, betas=config.betas, eps=config.eps
    )


def _adamw8bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise InputError(
            "optimizer.kind is adamw8bit and the package bitsandbytes is not installed. "
            "`pip install bitsandbytes` (it needs a CUDA device), or use adamw."
        ) from error
    return AdamW8bit


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
