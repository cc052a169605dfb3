"""LoRAs attached to a denoiser's layers for the duration of a run; the weights do not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..stored import dequantized
from .changes import Change, Product
from .lora_set import LoraSet

#: Computes what is added to a layer's output from the layer, its input and its output.
Branch = Callable[[Any, Tensor, Tensor], Tensor]


@contextmanager
def attached(
    network: nn.Module, loras: LoraSet, *, device: torch.device, dtype: torch.dtype
) -> Iterator[None]:
    """Within the `with` block, every changed layer returns `y + up(down(x))` instead of `y`.

    The matrices are kept on `device` in `dtype` until the block exits, with or without an error;
    then the network is as before. If a layer's input has another dtype, they are cast on use. This
    works for quantised weights, too. Kinds other than LoRA have their own formula.
    """
    handles = []
    try:
        for module in loras.modules:
            layer = network.get_submodule(module)
            branches = list(_branches(loras, module, layer, device, dtype))
            handles.append(layer.register_forward_hook(_hook(branches)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _branches(
    loras: LoraSet, module: str, layer: nn.Module, device: torch.device, dtype: torch.dtype
) -> Iterator[Branch]:
    low = loras.low_rank(module)
    if low is not None:
        yield _times(low.to(device, dtype))
    for change in loras.changes(module):
        if change.layer.magnitude is not None:
            yield _Decomposed(change, layer, device, dtype)
        elif not change.is_low_rank:
            product = change.product(change.strength)
            if product is not None:
                yield _times(product.to(device, dtype))
    bias = loras.bias_delta(module)
    if bias is not None:
        yield _constant(bias.to(device, dtype))


def _hook(branches: list[Branch]) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    def add_branches(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        added = [branch(layer, inputs[0], output) for branch in branches]
        for part in added:
            output.add_(part)
        return output

    return add_branches


def _times(product: Product) -> Branch:
    return lambda _, x, __: product.to(x.device, x.dtype).times(x)


def _constant(bias_O: Tensor) -> Branch:
    return lambda *_: bias_O


class _Decomposed:
    """DoRA: rescales the rows or columns of the whole changed weight, the layer's own included."""

    def __init__(
        self, change: Change, layer: nn.Module, device: torch.device, dtype: torch.dtype
    ) -> None:
        lengths = change.lengths(dequantized(layer.weight).detach().float().cpu())
        self._by_rows = lengths.shape[1] == 1
        self._lengths = lengths.flatten().to(device, dtype)
        self._more = (lengths.flatten() - 1).to(device, dtype)
        self._product = change.inner().to(device, dtype)
        self._strength = change.strength

    def __call__(self, layer: Any, x: Tensor, output: Tensor) -> Tensor:
        product = self._product.to(x.device, x.dtype)
        bias = None if layer.bias is None else layer.bias.to(output)
        if self._by_rows:
            own = output if bias is None else output - bias
            more = own * self._more + product.times(x) * self._lengths
        else:
            own = layer.forward(x * self._more)
            own = own if bias is None else own - bias
            more = own + product.times(x * self._lengths)
        return more * self._strength
