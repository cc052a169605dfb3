"""Everything that changes during a run, as the parts of a state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import deepspeed
from .average import Average
from .optimizers import RATES, forget_others, make_state, number_slot, optimizer_slots
from .random_numbers import random_slots
from .slots import Slot, Slots, buffers, finite, slot, trained

RANDOM = "random"
_AVERAGE = "average"
SCALER = "scaler"
_SCALE, _TRACKER = "scale", "_growth_tracker"


@dataclass(frozen=True)
class RunState:
    """What to save of a run. Networks, optimisers and schedules are keyed by network name.

    Frozen weights are left out, because they come from the checkpoint: a LoRA's state is as small
    as the LoRA. So is what follows from the step: the schedules and the position in the data.
    """

    accelerator: Any
    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Any]
    schedules: Mapping[str, Any]
    average: Average | None

    def parts(self) -> dict[str, Slots]:
        """All slots, by part."""
        return self._weights() | self._optimizers() | self._others()

    def parts_for(self, names: Mapping[str, Collection[str]]) -> dict[str, Slots]:
        """The parts of a run that has not started yet, for a state that contains these `names`."""
        for name, optimizer in self.optimizers.items():
            kept = names.get(_optimizer(name), ())
            if set(kept) <= {RATES}:
                continue
            if self._is_deepspeed():
                deepspeed.make_zero_state(optimizer.optimizer)
            else:
                make_state(optimizer.optimizer)
                forget_others(optimizer.optimizer, self.networks[name], kept)
        return self.parts()

    def weights(self, name: str) -> dict[str, Tensor]:
        """The trained weights of one network, whole; every process must call it."""
        return {key: one.get() for key, one in self._weights()[_weights(name)].items()}

    def follow(self, step: int) -> tuple[str, ...]:
        """Set what follows from the step: the schedules and the learning rates.

        Returns a note if the settings give another learning rate than the state has.
        """
        notes = []
        for name, schedule in self.schedules.items():
            groups = self._groups(name)
            factors = [factor(step) for factor in schedule.lr_lambdas]
            rates = [base * part for base, part in zip(schedule.base_lrs, factors, strict=True)]
            restored = [group["lr"] for group in groups]
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
            if restored != rates:
                notes.append(
                    f"The learning rate is {rates[0]:.3g} from step {step + 1} on; with the "
                    f"settings before it would have been {restored[0]:.3g}."
                )
            own = schedule.state_dict()
            own |= {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates}
            schedule.load_state_dict(own)
        return tuple(notes)

    def _groups(self, name: str) -> Any:
        optimizer = self.optimizers[name].optimizer
        return (optimizer.optimizer if self._is_deepspeed() else optimizer).param_groups

    def _weights(self) -> dict[str, Slots]:
        if self._is_deepspeed():
            return {_weights(n): deepspeed.weight_slots(x) for n, x in self.networks.items()}
        return {
            _weights(name): {
                key: slot(tensor, finite)
                for key, tensor in {**trained(network), **buffers(network)}.items()
            }
            for name, network in self.networks.items()
        }

    def _optimizers(self) -> dict[str, Slots]:
        slots = deepspeed.optimizer_slots if self._is_deepspeed() else optimizer_slots
        return {
            _optimizer(name): slots(optimizer.optimizer, self.networks[name])
            for name, optimizer in self.optimizers.items()
        }

    def _others(self) -> dict[str, Slots]:
        parts = {RANDOM: random_slots(self.accelerator)}
        if self.average is not None:
            parts[_AVERAGE] = self.average.slots()
        if self.accelerator.scaler is not None:
            parts[SCALER] = _scaler_slots(self.accelerator.scaler)
        return parts

    def _is_deepspeed(self) -> bool:
        return bool(self.accelerator.distributed_type.value == "DEEPSPEED")


def _weights(name: str) -> str:
    return f"{name}-weights"


def _optimizer(name: str) -> str:
    return f"{name}-optimizer"


def _scaler_slots(scaler: Any) -> Slots:
    """The loss scale of float16, and for how many steps it has not overflowed."""
    own = scaler.state_dict()

    def put(slot_set: Any, value: torch.Tensor) -> None:
        slot_set(value)
        scaler.load_state_dict(own)

    slots = {key: number_slot(own, key) for key in (_SCALE, _TRACKER)}
    return {
        key: Slot(one.dtype, one.shape, one.get, partial(put, one.set), one.valid)
        for key, one in slots.items()
    }
