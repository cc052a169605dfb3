"""A network on the device for its stage, in one of the ways of `Memory.offload`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from .streaming import streamed
from .weights import brought, move, weights_of


@contextmanager
def placed(network: nn.Module, device: torch.device, how: str) -> Iterator[None]:
    """The network ready to compute on `device` inside the block; the result is the same to the bit.

    Args:
        network: Its weights lie in main memory, mapped or not, or on the device.
        device: Where its inputs will be.
        how: "resident": it is moved there and stays. "module": all of it is there inside the block.
            "block": of its `blocks_of` at most two are there at a time, and all that is around them
            is there inside the block.
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
    """The network's list of blocks: of its module lists the one with the most values."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=_num_values, default=()))


def _num_values(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
