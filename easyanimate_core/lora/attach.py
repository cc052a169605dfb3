"""LoRAs beside a denoiser's layers for the length of a run: the weights stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .low_rank import LoraSet, LowRank


@contextmanager
def attached(
    network: nn.Module, loras: LoraSet, *, device: torch.device, dtype: torch.dtype
) -> Iterator[None]:
    """Inside the block every changed layer gives `y + up(down(x))` in place of `y`.

    The low-rank matrices lie on `device` in `dtype` until the block ends, however it ends; nothing
    of them is left on the network. It works on quantised weights as on any other.
    """
    handles = []
    try:
        for module in loras.modules:
            down, up = loras.low_rank(module)
            branch = LowRank(down.to(device, dtype), up.to(device, dtype))
            handles.append(network.get_submodule(module).register_forward_hook(_hook(branch)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(branch: LowRank) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    down_RI, up_OR = branch

    def add_branch(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.add_(F.linear(F.linear(inputs[0], down_RI), up_OR))

    return add_branch
