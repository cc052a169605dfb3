"""The moving average of the weights, whole or in the parts that FSDP gives each process."""

from __future__ import annotations

from typing import Any

from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor that the processes hold parts of; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def take_apart(network: nn.Module) -> None:
    """Leave every process its part of the weights that FSDP has put together to run `network`."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


class Average(EMAModel):
    """diffusers' moving average. Its state is whole, so that one process can write it."""

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = super().state_dict()
        return state | {"shadow_params": [whole(tensor) for tensor in self.shadow_params]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = self.shadow_params
        super().load_state_dict(state_dict)
        loaded = zip(self.shadow_params, own, strict=True)
        self.shadow_params = [_like(tensor, mine) for tensor, mine in loaded]


def _like(tensor: Tensor, own: Tensor) -> Tensor:
    """`tensor` on the device of `own`, or this process's part of it."""
    tensor = tensor.to(own.device)
    if not isinstance(own, DTensor):
        return tensor
    return distribute_tensor(tensor, own.device_mesh, own.placements)
