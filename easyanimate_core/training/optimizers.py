"""Optimisers and learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..errors import InputError
from ..files.packages import require
from .config import OptimizerConfig
from .muon import Muon, block_matrices

#: Distributed types of accelerate that shard the weights or the optimiser's state.
SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def make_optimizer(
    config: OptimizerConfig,
    network: nn.Module,
    distributed: str = "NO",
    *,
    bf16: bool = False,
) -> torch.optim.Optimizer:
    """AdamW, 8-bit AdamW, or Muon with AdamW over the trainable parameters.

    Args:
        config: The optimiser's section of the config.
        network: The network to train.
        distributed: accelerate's `DistributedType`.
        bf16: Whether the run computes in bfloat16; Muon then does, too.

    Raises:
        InputError: The kind needs a package that is not installed, or does not work with the
            network or the distributed type.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if config.kind == "muon":
        return _muon(config, network, parameters, distributed, bf16=bf16)
    kind = torch.optim.AdamW if config.kind == "adamw" else _adamw8bit()
    return kind(
        _groups(config, parameters), lr=config.learning_rate, betas=config.betas, eps=config.eps
    )


def _adamw8bit() -> Any:
    require("optimizer.kind: adamw8bit", ["bitsandbytes"])
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit


def _muon(
    config: OptimizerConfig,
    network: nn.Module,
    parameters: Sequence[nn.Parameter],
    distributed: str,
    *,
    bf16: bool,
) -> torch.optim.Optimizer:
    if distributed in SHARDED:
        raise InputError(
            f"optimizer.kind is muon, which needs whole weights, but {distributed} shards them. "
            "Use adamw, or train without it."
        )
    matrices = block_matrices(network)
    if not matrices:
        raise InputError(
            "optimizer.kind is muon, which is for the matrices of transformer blocks, but the "
            "network trains none. Use adamw."
        )
    known = {id(matrix) for matrix in matrices}
    others = [p for p in parameters if id(p) not in known]
    return Muon(
        matrices,
        _groups(config, others),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=config.betas,
        eps=config.eps,
        bf16=bf16,
    )


def _groups(config: OptimizerConfig, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups with weight decay for all but norms and biases."""
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
    """Linear warm-up, then constant, or decaying to zero at `steps` (linear, cosine)."""

    def factor(step: int) -> float:
        if step < config.warmup:
            return (step + 1) / config.warmup
        if config.schedule == "constant":
            return 1.0
        share = min(1.0, (step - config.warmup) / max(1, steps - config.warmup))
        return 1 - share if config.schedule == "linear" else (1 + math.cos(math.pi * share)) / 2

    return LambdaLR(optimizer, factor)
