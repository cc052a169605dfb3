"""Placing a network on the device for its stage, according to `Memory.offload`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from .streaming import streamed
from .weights import brought, move, weights_of


@contextmanager
def placed(network: nn.Module, device: torch.device, how: str) -> Iterator[None]:
    """Make the network ready to compute on `device` within the `with` block.

    The result is bit-identical for all values of `how`.

    Args:
        network: Its weights are in main memory, mapped or not, or on the device.
        device: Device of its inputs.
        how: "resident": moves it there for good. "module": all of it is there within the `with`
            block. "block": at most two of its `blocks_of` are there at a time, everything else
            within the `with` block.
    """
    if how == "resident":
        move(weights_of(network.modules()), device)
        yield
        return
    blocks: Sequence[nn.Module] = blocks_of(network) if how == "block" else ()
    streaming = {id(module) for block in blocks for module in block.modules()}
    around = [module for module in network.modules() if id(module) not in streaming]
    with brought(weights_of(around), device):
        if not blocks:
            yield
            return
        with streamed(blocks, device):
            yield


def blocks_of(network: nn.Module) -> Sequence[nn.Module]:
    """The network's blocks: its module list with the most parameters."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=_num_values, default=()))


def _num_values(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
