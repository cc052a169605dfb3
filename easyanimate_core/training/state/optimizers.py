"""An optimiser's state by parameter name, and its learning rates.

Slots of a parameter's state are named `KEY/NAME`, such as `exp_avg/proj_out.weight`.
"""

from __future__ import annotations

from collections.abc import Collection, MutableMapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .slots import Slot, Slots, not_negative, slot, trained

RATES = "learning_rate"


def optimizer_slots(optimizer: torch.optim.Optimizer, network: nn.Module) -> Slots:
    """The learning rates, and the optimiser's current state of the network's parameters."""
    slots = {RATES: rates_slot(optimizer.param_groups)}
    for name, parameter in trained(network).items():
        kept = optimizer.state.get(parameter, {})
        slots |= {f"{key}/{name}": kept_slot(kept, key) for key in kept}
    return slots


def rates_slot(groups: Sequence[MutableMapping[str, Any]]) -> Slot:
    """The learning rate of each parameter group."""
    return Slot(
        torch.float64, (len(groups),), partial(_rates, groups), partial(_set_rates, groups),
        not_negative,
    )  # fmt: skip


def kept_slot(kept: MutableMapping[str, Any], key: str) -> Slot:
    """The slot of one entry: a tensor like the parameter, or a step count (tensor or number)."""
    value = kept[key]
    if isinstance(value, Tensor):
        return slot(value, not_negative) if value.ndim == 0 else slot(value)
    return number_slot(kept, key)


def number_slot(kept: MutableMapping[str, Any], key: str) -> Slot:
    """The slot of an integer or a float in a dictionary."""
    kind = type(kept[key])
    dtype = {int: torch.int64, float: torch.float64}[kind]
    return Slot(
        dtype, (), lambda: torch.tensor(kept[key], dtype=dtype),
        lambda value: kept.update({key: kind(value)}), not_negative,
    )  # fmt: skip


@torch.no_grad()
def make_state(optimizer: torch.optim.Optimizer) -> None:
    """Make a fresh optimiser create its state, by a step with learning rate zero."""
    groups = optimizer.param_groups
    rates = [group["lr"] for group in groups]
    parameters = [parameter for group in groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    for group in groups:
        group["lr"] = 0.0
    optimizer.step()
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def forget_others(
    optimizer: torch.optim.Optimizer, network: nn.Module, names: Collection[str]
) -> None:
    """Drop what `make_state` created for parameters that do not occur in `names`.

    They had no gradient when the state was written, such as a discriminator not in use yet.
    """
    known = {name.partition("/")[2] for name in names}
    for name, parameter in trained(network).items():
        if name not in known:
            optimizer.state.pop(parameter, None)


def _rates(groups: Sequence[MutableMapping[str, Any]]) -> Tensor:
    return torch.tensor([float(group["lr"]) for group in groups], dtype=torch.float64)


def _set_rates(groups: Sequence[MutableMapping[str, Any]], values: Tensor) -> None:
    for group, rate in zip(groups, values.tolist(), strict=True):
        group["lr"] = rate
