"""The arithmetic of a LoRA: merged into a weight, or as a branch next to a layer.

Shapes: O output features, I input features, R rank (of all LoRAs of a layer together).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .file import DIFFERENCE, LOHA, LOW_RANK, NOTHING, LoraLayer


class Product(Protocol):
    """A matrix that is added to a weight, kept as factors."""

    def matrix(self) -> Tensor:
        """The matrix itself [O, I]."""

    def times(self, x: Tensor) -> Tensor:
        """Its product with the features of `x`."""

    def add_to(self, output: Tensor, x: Tensor) -> None:
        """Add `times(x)` to `output`, in place."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Product:
        """The same on another device, in another dtype."""


class LowRank(NamedTuple):
    """A change `up_OR @ down_RI` of a weight, including all strengths; float32."""

    down_RI: Tensor
    up_OR: Tensor

    def matrix(self) -> Tensor:
        return self.up_OR @ self.down_RI

    def times(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down_RI), self.up_OR)

    def add_to(self, output: Tensor, x: Tensor) -> None:
        _accumulate(output, F.linear(x, self.down_RI), self.up_OR)

    def to(self, device: torch.device, dtype: torch.dtype) -> LowRank:
        return LowRank(self.down_RI.to(device, dtype), self.up_OR.to(device, dtype))


class Kronecker(NamedTuple):
    """LoKr: the Kronecker product of two matrices."""

    first: Tensor
    second: Tensor

    def matrix(self) -> Tensor:
        return torch.kron(self.first, self.second)

    def times(self, x: Tensor) -> Tensor:
        grid = x.unflatten(-1, (self.first.shape[1], self.second.shape[1]))
        return (self.first @ F.linear(grid, self.second)).flatten(-2)

    def add_to(self, output: Tensor, x: Tensor) -> None:
        output.add_(self.times(x))

    def to(self, device: torch.device, dtype: torch.dtype) -> Kronecker:
        return Kronecker(self.first.to(device, dtype), self.second.to(device, dtype))


class Whole(NamedTuple):
    """A difference, not factorised."""

    change_OI: Tensor

    def matrix(self) -> Tensor:
        return self.change_OI

    def times(self, x: Tensor) -> Tensor:
        return F.linear(x, self.change_OI)

    def add_to(self, output: Tensor, x: Tensor) -> None:
        _accumulate(output, x, self.change_OI)

    def to(self, device: torch.device, dtype: torch.dtype) -> Whole:
        return Whole(self.change_OI.to(device, dtype))


@dataclass(frozen=True)
class Change:
    """One LoRA's change of one layer; `strength` is the user's, times the block's factor."""

    layer: LoraLayer
    strength: float

    @property
    def is_low_rank(self) -> bool:
        """Whether it can be combined with others into one low-rank change."""
        return self.layer.magnitude is None and isinstance(self.product(1.0), LowRank)

    def product(self, factor: float) -> Product | None:
        """What is added to the weight, before DoRA's rescaling, times `factor`."""
        parts = {name: tensor.float() for name, tensor in self.layer.tensors.items()}
        factor *= self.layer.scale
        kind = tuple(parts)
        if kind == NOTHING:
            return None
        if kind == LOW_RANK:
            return LowRank(parts["down"], parts["up"] * factor)
        if kind == DIFFERENCE:
            return Whole(parts["difference"] * factor)
        if kind == LOHA:
            return _loha(parts[LOHA[0]] * factor, *(parts[name] for name in LOHA[1:]))
        first, second = (
            parts[name] if name in parts else parts[f"{name}_a"] @ parts[f"{name}_b"]
            for name in ("lokr_w1", "lokr_w2")
        )
        return Kronecker(first * factor, second)

    def delta(self, weight_OI: Tensor | None) -> Tensor:
        """What is added to a weight: [O, I] in float32. Not every kind needs the weight."""
        product = self.product(self.strength)
        if self.layer.magnitude is None and product is not None:
            return product.matrix()
        assert weight_OI is not None
        if product is None:
            return torch.zeros_like(weight_OI, dtype=torch.float32)
        changed = weight_OI.float() + self.inner().matrix()
        return self.strength * (changed * self.lengths(weight_OI) - weight_OI.float())

    def lengths(self, weight_OI: Tensor) -> Tensor:
        """DoRA's factors that give the changed weight's rows or columns the norms of `magnitude`.

        [O, 1] or [1, I].
        """
        assert self.layer.magnitude is not None
        magnitude = self.layer.magnitude.float()
        changed = weight_OI.float() + self.inner().matrix().to(weight_OI.device)
        found = changed.norm(dim=1 if magnitude.shape[1] == 1 else 0, keepdim=True)
        return magnitude.to(found) / found.clamp(min=torch.finfo(found.dtype).tiny)

    def inner(self) -> Product:
        """What DoRA adds before rescaling, without the strength, which applies to the result."""
        inner = self.product(1.0)
        assert inner is not None
        return inner


def joined(changes: Sequence[Change]) -> LowRank:
    """Low-rank changes combined into one, whose rank is the sum of theirs."""
    products = [change.product(change.strength) for change in changes]
    low = [product for product in products if isinstance(product, LowRank)]
    return LowRank(torch.cat([p.down_RI for p in low]), torch.cat([p.up_OR for p in low], dim=1))


def _accumulate(output: Tensor, x: Tensor, matrix_OI: Tensor) -> None:
    """Add the product to `output` inside the matrix multiplication: it is never stored."""
    output.view(-1, len(matrix_OI)).addmm_(x.flatten(0, -2), matrix_OI.t())


def _loha(one_OR: Tensor, one_RI: Tensor, other_OR: Tensor, other_RI: Tensor) -> Product:
    """(one_OR @ one_RI) * (other_OR @ other_RI), as factors if that is cheaper.

    The result has low rank itself: its factors are the products of all pairs of theirs.
    """
    rank = one_OR.shape[1] * other_OR.shape[1]
    if 2 * rank > min(one_OR.shape[0], one_RI.shape[1]):
        return Whole((one_OR @ one_RI) * (other_OR @ other_RI))
    up = (one_OR[:, :, None] * other_OR[:, None, :]).flatten(1)
    return LowRank((one_RI[:, None] * other_RI[None]).flatten(0, 1), up)
