"""Placing a network on the device for its stage, according to `Memory.offload`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from .streaming import streamed
from .weights import brought, move, weights_of


@contextmanager
def placed(
    network: nn.Module,
    device: torch.device,
    how: str,
    *,
    resident_blocks: int = 0,
    lockable: int = 0,
) -> Iterator[None]:
    """Make the network ready to compute on `device` within the `with` block.

    The result is bit-identical for all values of `how`.

    Args:
        network: Its weights are in main memory, mapped or not, or on the device.
        device: Device of its inputs.
        how: "resident": moves it there for good. "module": all of it is there within the `with`
            block. "block": so are `resident_blocks` of its `blocks_of` and what is beside them; at
            most two of the other blocks are there at a time.
        resident_blocks: Of "block". They lie evenly between the others, so that every transfer has
            as much computation to hide behind.
        lockable: Of "block": see `streamed`.
    """
    if how == "resident":
        move(weights_of(network.modules()), device)
        yield
        return
    blocks: Sequence[nn.Module] = blocks_of(network) if how == "block" else ()
    blocks = [block for i, block in enumerate(blocks)
              if not _stays(i, len(blocks), resident_blocks)]  # fmt: skip
    streaming = {id(module) for block in blocks for module in block.modules()}
    around = [module for module in network.modules() if id(module) not in streaming]
    with brought(weights_of(around), device):
        if not blocks:
            yield
            return
        with streamed(blocks, device, lockable=lockable):
            yield


def blocks_of(network: nn.Module) -> Sequence[nn.Module]:
    """The network's blocks: its module list with the most parameters."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=_num_values, default=()))


def _stays(index: int, num_blocks: int, resident: int) -> bool:
    """Whether a block is among the `resident` ones, which are spread evenly."""
    resident = min(resident, num_blocks)
    return (index + 1) * resident // num_blocks > index * resident // num_blocks


def _num_values(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
