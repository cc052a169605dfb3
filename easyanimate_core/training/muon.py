"""Muon for the blocks' matrices and AdamW for everything else, as one optimiser.

Source: Jordan et al., "Muon", 2024; the scale that lets both share AdamW's learning rate is from
Liu et al., arXiv 2502.16982. PyTorch's own Muon only computes in bfloat16, which is four times
slower than float32 on CPUs without bfloat16 support.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_STEPS = 5
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_RMS = 0.2  # RMS of AdamW's updates at a learning rate of 1


class Muon(torch.optim.Optimizer):
    """Updates `matrices` [rows, columns] with Muon and the groups of `others` with AdamW.

    `bf16` is for CPUs with bfloat16 support, where it takes a quarter of the time.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Iterable[Mapping[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        eps: float,
        bf16: bool = False,
    ) -> None:
        self._bf16 = bf16
        self._adamw = torch.optim.AdamW([dict(group) for group in others], lr, betas, eps)
        group = {"params": list(matrices), "lr": lr, "weight_decay": weight_decay}
        super().__init__([group, *self._adamw.param_groups], {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Perform one step of both optimisers."""
        loss = closure() if closure is not None else None
        group = self.param_groups[0]
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                direction = orthogonal(self._nesterov(parameter, parameter.grad), bf16=self._bf16)
                scale = _RMS * max(parameter.shape) ** 0.5
                parameter.add_(direction, alpha=-group["lr"] * scale)
        self._adamw.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of both optimisers, as returned by `state_dict`."""
        super().load_state_dict(state_dict)
        self._share()

    def _nesterov(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)

    def _share(self) -> None:
        """Let AdamW work on this optimiser's own groups and state."""
        self._adamw.param_groups = self.param_groups[1:]
        self._adamw.state = self.state


def orthogonal(matrix: Tensor, *, bf16: bool = False) -> Tensor:
    """Approximate the orthogonal matrix nearest to `matrix` [rows, columns].

    Five Newton-Schulz steps bring its singular values near 1, in float32, or in bfloat16 if `bf16`
    is set and on GPUs.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x.to(torch.bfloat16 if bf16 or matrix.is_cuda else torch.float32)
    x = x / (x.norm() + 1e-7)
    first, third, fifth = _POLYNOMIAL
    for _ in range(_STEPS):
        square = x @ x.mT
        x = torch.addmm(
            x, torch.addmm(square, square, square, beta=third, alpha=fifth), x, beta=first
        )
    return (x.mT if tall else x).to(matrix.dtype)


def block_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The trainable weights [rows, columns] of the repeated blocks.

    The first and last layers do not count: a network's inputs and outputs have their own scales.
    """
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and parameter.ndim == 2 and "blocks." in name
    ]
