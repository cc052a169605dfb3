"""The layers that the networks are built from.

A network takes `Linear`, `Conv3d` and so on from an `operations` namespace. The default,
`ManualCast`, is the pure-PyTorch counterpart of ComfyUI's `comfy.ops.manual_cast`: weights may be
stored in another dtype than the input's, and every layer casts them to the input's dtype and device
on use. Inside ComfyUI the bridge passes ComfyUI's own namespace, so that its streaming, patching
and fp8 features apply to these networks.

Layers do not initialise their weights: networks are built on the meta device and filled by
`load_state_dict(assign=True)`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Branch(Protocol):
    """A change beside a linear layer for the duration of a run, such as a LoRA."""

    def add_to(self, output: Tensor, x: Tensor, layer: ManualCast.Linear) -> None:
        """Add the change for the input `x` to the layer's output, in place."""


def _cast(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(device=x.device, dtype=x.dtype)


def gelu(x: Tensor) -> Tensor:
    """GELU (tanh); in place unless `x` needs a gradient, because it is the largest activation."""
    if x.requires_grad:
        return F.gelu(x, approximate="tanh")
    return torch.ops.aten.gelu_(x, approximate="tanh")


def _fuses_gelu(x: Tensor) -> bool:
    """Whether `_addmm_activation` computes the tanh form for `x`: on a CPU, it does not."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    return half and x.is_cuda and torch.version.hip is None and not torch.is_grad_enabled()


class ManualCast:
    """Namespace of layers whose compute dtype and device follow the input."""

    class Linear(nn.Linear):
        #: Applied in this order. Unlike hooks, they are seen by `torch.compile`.
        branches: tuple[Branch, ...] = ()

        def reset_parameters(self) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            output = self.own(x)
            for branch in self.branches:
                branch.add_to(output, x, self)
            return output

        def own(self, x: Tensor) -> Tensor:
            """The output without the branches."""
            return F.linear(x, self.weight_for(x), _cast(self.bias, x))

        def with_gelu(self, x: Tensor) -> Tensor:
            """GELU (tanh) of the output.

            On NVIDIA's cards it is part of the matrix product in half precision, computed before
            the product is rounded; so it may differ from the GELU of the output by one rounding.
            """
            if self.bias is None or self.branches or not _fuses_gelu(x):
                return gelu(self(x))
            bias, weight_IO = self.bias.to(x), self.weight_for(x).t()
            output = torch._addmm_activation(bias, x.flatten(0, -2), weight_IO, use_gelu=True)
            return output.unflatten(0, x.shape[:-1])

        def weight_for(self, x: Tensor) -> Tensor:
            """The weight in the dtype and on the device of `x`."""
            return self.weight.to(x)

    class Conv2d(nn.Conv2d):
        def reset_parameters(self) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight.to(x), _cast(self.bias, x))

    class Conv3d(nn.Conv3d):
        def reset_parameters(self) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight.to(x), _cast(self.bias, x))

    class LayerNorm(nn.LayerNorm):
        def reset_parameters(self) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            weight, bias = _cast(self.weight, x), _cast(self.bias, x)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)

    class GroupNorm(nn.GroupNorm):
        def reset_parameters(self) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            return F.group_norm(
                x, self.num_groups, _cast(self.weight, x), _cast(self.bias, x), self.eps
            )

    class RMSNorm(nn.RMSNorm):
        def reset_parameters(self) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            return F.rms_norm(x, self.normalized_shape, _cast(self.weight, x), self.eps)


#: What networks accept as `operations`: `ManualCast` or a ComfyUI namespace with the same layers.
Operations = Any
