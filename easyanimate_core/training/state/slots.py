"""The building blocks of a state: whole tensors by name, wherever their values are stored.

A slot knows how to read a tensor from the run and how to set it. Thus one writer and one reader
serve weights, optimisers, averages and random states, on one device or many, and a file is checked
against the run before anything is loaded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def anything(_: Tensor) -> bool:
    """Accept every value."""
    return True


@dataclass(frozen=True)
class Slot:
    """One tensor of a state.

    `get` returns it whole and `set` takes it whole, on any device; every process must call them.
    `valid` checks whether the run can continue with a value.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    get: Callable[[], Tensor]
    set: Callable[[Tensor], None]
    valid: Callable[[Tensor], bool] = anything


Slots = dict[str, Slot]


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor; every process must call it."""
    if not isinstance(tensor, DTensor):
        return tensor
    # Shards may be in CPU memory while the processes communicate between GPUs.
    there: DTensor = tensor.to(tensor.device_mesh.device_type)  # type: ignore[assignment]
    return there.full_tensor()


@torch.no_grad()
def assign(own: Tensor, value: Tensor) -> None:
    """Copy a whole `value` into a tensor, or this process's shard of it."""
    if isinstance(own, DTensor):
        mesh = own.device_mesh
        value = distribute_tensor(value.to(mesh.device_type), mesh, own.placements).to_local()
        own = own.to_local()
    own.copy_(value)


def slot(tensor: Tensor, valid: Callable[[Tensor], bool] = anything) -> Slot:
    """The slot of a tensor that is updated in place."""
    return Slot(
        tensor.dtype,
        tuple(tensor.shape),
        partial(whole, tensor),
        partial(assign, tensor),
        valid,
    )


def trained(network: nn.Module) -> Mapping[str, nn.Parameter]:
    """The trainable parameters, by the network's own names."""
    return {
        plain_name(name): parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def buffers(network: nn.Module) -> Mapping[str, Tensor]:
    """The persistent buffers."""
    kept = network.state_dict().keys()
    return {plain_name(name): b for name, b in network.named_buffers() if name in kept}


def plain_name(name: str) -> str:
    """The name without the wrappers of `torch.compile` and activation checkpointing."""
    return name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")


def finite(value: Tensor) -> bool:
    """Whether all values are finite."""
    return bool(torch.isfinite(value).all())


def not_negative(value: Tensor) -> bool:
    """Whether a count or a rate is finite and not negative."""
    return bool(torch.isfinite(value.double()).all() and (value >= 0).all())
