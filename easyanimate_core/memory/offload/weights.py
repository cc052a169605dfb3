"""The tensors of a network and their places in it, so that copies can temporarily replace them.

Stored tensors are never written to: a copy takes a tensor's place in the module, and the stored one
is restored afterwards. So a memory-mapped weight stays mapped, and leaving a device costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


@dataclass(frozen=True)
class Weight:
    """A parameter or a buffer: `holder[name]` is its place in the module, `tensor` the stored one.

    A weight may be a tensor subclass that wraps others, such as optimum-quanto's.
    """

    holder: dict[str, Tensor | None]
    name: str
    tensor: Tensor

    def put(self, tensor: Tensor) -> None:
        """Make the module use `tensor`."""
        self.holder[self.name] = tensor

    def restore(self) -> None:
        """Make the module use the stored tensor again."""
        self.holder[self.name] = self.tensor


def weights_of(modules: Iterable[nn.Module]) -> list[Weight]:
    """The parameters and buffers of these modules themselves, without their children's."""
    holders: list[Any] = [h for m in modules for h in (m._parameters, m._buffers)]
    return [
        Weight(holder, name, tensor)
        for holder in holders
        for name, tensor in holder.items()
        if tensor is not None
    ]


def parts_of(tensor: Tensor) -> list[Tensor]:
    """The plain tensors of a weight: itself, or those in a wrapper (data, scale)."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return [part for name in names for part in parts_of(getattr(tensor, name))]
    assert type(tensor) in (Tensor, nn.Parameter), f"{type(tensor)} cannot be flattened"
    return [tensor.detach()]


def rebuilt(tensor: Any, parts: Iterator[Tensor]) -> Tensor:
    """A weight like `tensor` made of other parts, in the order of `parts_of`.

    A wrapper's own `.to` may choose another memory layout, and thus another kernel, on each device.
    This function keeps the layout, so that every placement gives bit-identical results.
    """
    if not is_traceable_wrapper_subclass(tensor):
        return next(parts)
    names, context = tensor.__tensor_flatten__()
    inner = {name: rebuilt(getattr(tensor, name), parts) for name in names}
    kind: Any = type(tensor)  # PyTorch's type annotation for the next line is wrong
    return kind.__tensor_unflatten__(inner, context, tensor.size(), tensor.stride())


def move(weights: Iterable[Weight], device: torch.device) -> None:
    """Replace the weights by copies on `device`, except those that are already there."""
    copies: dict[int, Tensor] = {}  # tied weights stay tied
    for weight in weights:
        key = id(weight.tensor)
        if key not in copies:
            parts = parts_of(weight.tensor)
            there = all(part.device == device for part in parts)
            copies[key] = weight.tensor if there else _copied(weight.tensor, parts, device)
        weight.put(copies[key])


def _copied(tensor: Tensor, parts: Iterable[Tensor], device: torch.device) -> Tensor:
    copy = rebuilt(tensor, (part.to(device) for part in parts))
    return nn.Parameter(copy, requires_grad=False) if isinstance(tensor, nn.Parameter) else copy


@contextmanager
def brought(weights: list[Weight], device: torch.device) -> Iterator[None]:
    """Copies on `device` within the `with` block, the stored weights after it."""
    try:
        move(weights, device)
        yield
    finally:
        for weight in weights:
            weight.restore()
