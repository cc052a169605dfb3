"""How much a step computes and moves: counted from the denoiser's own operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...models.specs import TransformerConfig
from .activations import denoiser_call


@dataclass(frozen=True)
class Work:
    """`flop`: of products of matrices and of attention. `moved`: bytes of all other operations."""

    flop: int
    moved: int


@lru_cache(maxsize=64)
def step_work(
    config: TransformerConfig, size: tuple[int, int, int], rows: int, compute: torch.dtype
) -> Work:
    """The work of one step for `rows` samples of `size` (latent frames, height, width)."""
    from torch.utils.flop_counter import flop_registry  # imports Triton

    counter = _Counter(flop_registry)

    def attention(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        batch, heads, tokens, width = q_BHND.shape
        counter.flop += 4 * batch * heads * tokens * k_BHND.shape[2] * width
        return torch.empty_like(v_BHND).transpose(1, 2).flatten(2)

    # In inference mode, layers are not taken apart into the operations that are counted.
    with torch.inference_mode(False), torch.no_grad():
        run = denoiser_call(config, size, rows, compute, attention=attention).run
        with counter:
            run()
    return Work(counter.flop, counter.moved)


class _Counter(TorchDispatchMode):
    """`counts`: what the operations of products compute, by operation."""

    def __init__(self, counts: Mapping[Any, Callable[..., int]]) -> None:
        super().__init__()
        self._counts = counts
        self.flop = 0
        self.moved = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        count = self._counts.get(func.overloadpacket)
        if count is not None:
            self.flop += count(*args, **(kwargs or {}), out_val=result)
        elif not func.is_view and func not in _FREE:
            leaves = tree_leaves((args, kwargs, result))
            self.moved += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
        return result


_FREE = (torch.ops.aten.empty.memory_format, torch.ops.aten.empty_like.default)
