"""LoRAs attached to a denoiser's layers for the duration of a run; the weights do not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...models.ops import Branch
from ..stored import dequantized
from .changes import Change, Product
from .lora_set import LoraSet


@contextmanager
def attached(
    network: nn.Module, loras: LoraSet, *, device: torch.device, dtype: torch.dtype
) -> Iterator[None]:
    """Within the `with` block, every changed layer returns `y + up(down(x))` instead of `y`.

    The matrices are kept on `device` in `dtype` until the block exits, with or without an error;
    then the network is as before. If a layer's input has another dtype, they are cast on use. This
    works for quantised weights, too. Kinds other than LoRA have their own formula.
    """
    changed: list[Any] = []
    try:
        for module in loras.modules:
            layer: Any = network.get_submodule(module)
            layer.branches = tuple(_branches(loras, module, layer, device, dtype))
            changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.branches


def _branches(
    loras: LoraSet, module: str, layer: nn.Module, device: torch.device, dtype: torch.dtype
) -> Iterator[Branch]:
    changes = loras.changes(module)
    decomposed = [
        _Decomposed(change, layer, device, dtype)
        for change in changes
        if change.layer.magnitude is not None
    ]
    if decomposed:  # first: they rescale the layer's own output
        yield _AllDecomposed(tuple(decomposed))
    low = loras.low_rank(module)
    if low is not None:
        yield _Added(low.to(device, dtype))
    for change in changes:
        if change.layer.magnitude is None and not change.is_low_rank:
            product = change.product(change.strength)
            if product is not None:
                yield _Added(product.to(device, dtype))
    bias = loras.bias_delta(module)
    if bias is not None:
        yield _Bias(bias.to(device, dtype))


@dataclass(frozen=True)
class _Added:
    """A product that is added, accumulated by its last matrix multiplication."""

    product: Product

    def add_to(self, output: Tensor, x: Tensor, layer: Any) -> None:  # noqa: ARG002
        self.product.to(x.device, x.dtype).add_to(output, x)


@dataclass(frozen=True)
class _Bias:
    """A change of the bias."""

    bias_O: Tensor

    def add_to(self, output: Tensor, x: Tensor, layer: Any) -> None:  # noqa: ARG002
        output.add_(self.bias_O)


@dataclass(frozen=True)
class _AllDecomposed:
    """The DoRAs of a layer, each computed from the layer's own output."""

    parts: tuple[_Decomposed, ...]

    def add_to(self, output: Tensor, x: Tensor, layer: Any) -> None:
        for added in [part.change(output, x, layer) for part in self.parts]:
            output.add_(added)


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

    def change(self, output: Tensor, x: Tensor, layer: Any) -> Tensor:
        """What is added to the layer's own output."""
        product = self._product.to(x.device, x.dtype)
        bias = None if layer.bias is None else layer.bias.to(output)
        if self._by_rows:
            own = output if bias is None else output - bias
            more = own * self._more + product.times(x) * self._lengths
        else:
            own = layer.own(x * self._more)
            own = own if bias is None else own - bias
            more = own + product.times(x * self._lengths)
        return more * self._strength
