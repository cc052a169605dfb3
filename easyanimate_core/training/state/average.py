"""The moving average of the weights, whole or sharded by FSDP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from .optimizers import number_slot
from .slots import Slots, slot

_STEPS = "steps"


def take_apart(network: nn.Module) -> None:
    """Reshard the weights that FSDP gathered to run `network`."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


class Average:
    """An exponential moving average of `parameters`, whose decay grows from small to `decay`."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = dict(parameters)
        self._decay = decay
        self._values = {name: p.detach().clone() for name, p in parameters.items()}
        self._made = {_STEPS: 0}

    @torch.no_grad()
    def step(self) -> None:
        """Update the average with the current parameters."""
        before = self._made[_STEPS]
        self._made[_STEPS] += 1
        decay = min((1 + before) / (10 + before), self._decay) if before else 0.0
        for name, parameter in self._parameters.items():
            value = self._values[name]
            value.sub_((1 - decay) * (value - parameter))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap in the averaged weights inside the `with` block."""
        own = {name: p.detach().cpu().clone() for name, p in self._parameters.items()}
        for name, parameter in self._parameters.items():
            parameter.data.copy_(self._values[name].data)
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data.copy_(own[name].data)

    def slots(self) -> Slots:
        """Its slots of a state."""
        slots = {name: slot(value) for name, value in self._values.items()}
        return {_STEPS: number_slot(self._made, _STEPS), **slots}
