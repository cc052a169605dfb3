"""Slots of weights and optimiser states that DeepSpeed's ZeRO (stages 1 to 3) shards.

They go through DeepSpeed's own functions; its own checkpoints are pickles.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .optimizers import RATES, kept_slot, make_state, number_slot, rates_slot
from .slots import Slot, Slots, buffers, slot, trained

#: Fields of the dynamic loss scale of float16.
_SCALER = ("cur_scale", "cur_iter", "cur_hysteresis")
_LAST_OVERFLOW = "last_overflow_iter"


def weight_slots(network: nn.Module) -> Slots:
    """The float32 master weights; the network's own are a copy."""
    from deepspeed.utils import safe_get_full_fp32_param

    weights = {
        name: Slot(
            torch.float32, _shape(parameter), partial(safe_get_full_fp32_param, parameter),
            partial(_set_weight, parameter),
        )
        for name, parameter in trained(network).items()
    }  # fmt: skip
    return weights | {name: slot(buffer) for name, buffer in buffers(network).items()}


def optimizer_slots(zero: Any, network: nn.Module) -> Slots:
    """Like the slots of an unsharded optimiser; step counts are shared by all parameters."""
    from deepspeed.utils import safe_get_full_optimizer_state

    _link(zero)
    base = zero.optimizer
    slots = {RATES: rates_slot(base.param_groups)}
    kept: dict[str, Any] = next(iter(base.state.values()), {})
    for name, parameter in trained(network).items():
        for key, value in kept.items():
            if isinstance(value, Tensor) and value.ndim:
                slots[f"{key}/{name}"] = Slot(
                    torch.float32, _shape(parameter),
                    partial(safe_get_full_optimizer_state, parameter, key),
                    partial(_set_kept, parameter, key),
                )  # fmt: skip
            else:
                slots[f"{key}/{name}"] = _count_slot(base, kept, key)
    return slots | _scaler_slots(zero)


def make_zero_state(zero: Any) -> None:
    """`make_state` for this process's shards."""
    parts = getattr(zero, "fp32_partitioned_groups_flat", None)
    if parts is None:  # stages 1 and 2
        make_state(zero.optimizer)
        return
    for index, part in enumerate(parts):  # stage 3 passes its optimiser one shard at a time
        group = zero.optimizer.param_groups[zero.sub_group_to_group_id[index]]
        group["params"] = [part]
        make_state(zero.optimizer)
        group["params"] = []


def _link(zero: Any) -> None:
    """Link parameters to their state: DeepSpeed does so before all groups have some."""
    if hasattr(zero, "_hp_optimizer_states_linked"):  # stage 3 looks it up each time
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()


def _shape(parameter: Any) -> tuple[int, ...]:
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _set_weight(parameter: Any, value: Tensor) -> None:
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    value = value.to(parameter.device)
    if not hasattr(parameter, "ds_id"):
        safe_set_full_fp32_param(parameter, value)
        parameter.data.copy_(value)
        return
    safe_set_local_fp32_param(parameter, _part(parameter, value))
    with GatheredParameters([parameter], modifier_rank=0):
        parameter.data.copy_(value)


def _set_kept(parameter: Any, key: str, value: Tensor) -> None:
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    value = value.to(parameter.device)
    if hasattr(parameter, "ds_id"):
        safe_set_local_optimizer_state(parameter, _part(parameter, value), key)
    else:
        safe_set_full_optimizer_state(parameter, value, key)


def _part(parameter: Any, value: Tensor) -> Tensor:
    """This process's shard of `value` in stage 3; the last one is padded."""
    from deepspeed import comm

    size = parameter.ds_tensor.numel()
    rank = comm.get_rank(group=parameter.ds_process_group)
    ranks = comm.get_world_size(group=parameter.ds_process_group)
    flat = F.pad(value.flatten(), (0, size * ranks - value.numel()))
    return flat[rank * size : (rank + 1) * size]


def _count_slot(base: Any, kept: dict[str, Any], key: str) -> Slot:
    first = kept_slot(kept, key)

    def put(value: Tensor) -> None:
        for other in base.state.values():
            kept_slot(other, key).set(value)

    return Slot(first.dtype, first.shape, first.get, put, first.valid)


def _scaler_slots(zero: Any) -> Slots:
    scaler = getattr(zero, "loss_scaler", None)
    if not hasattr(scaler, _LAST_OVERFLOW):
        return {}
    slots = {f"scaler/{key}": number_slot(vars(scaler), key) for key in _SCALER}
    last = number_slot(vars(scaler), _LAST_OVERFLOW)  # -1 before the first overflow
    return slots | {f"scaler/{_LAST_OVERFLOW}": Slot(last.dtype, last.shape, last.get, last.set)}
