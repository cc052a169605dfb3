"""Loads a checkpoint's tensors into a text network, completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..progress import Progress, silent
from ..weights.files import read_json
from ..weights.loading import Renamed, assign_tensors, check_complete, check_materialised
from ..weights.stored import Quantizer

_COMPUTE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Placement:
    """Target of the weights. `dtype=None` keeps the stored dtype; "meta" reads no values.

    `quantization`, one of `memory.QUANTIZATIONS`, applies to the linear layers.
    """

    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"
    progress: Progress = silent
    quantization: str = "none"


def fill_network(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    rename: Callable[[str], str | None],
    *,
    name: str,
    placement: Placement,
) -> None:
    """Load `tensors` into a network built on the meta device.

    `rename` maps a stored name to the network's, or to None if the tensor is known but not needed.
    Raises a `CheckpointError` that lists missing, unexpected and misshapen tensors.
    """
    renamed = Renamed(tensors, rename)
    what = f"{name} text encoder"
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    check_complete(expected, {key: renamed[key].shape for key in renamed}, what=what)
    dtype = placement.dtype or _stored_dtype({renamed[key].dtype for key in renamed}, name)
    assign_tensors(
        network,
        renamed,
        what=what,
        dtype=dtype,
        device=placement.device,
        quantizer=_quantizer(network, placement.quantization),
        progress=placement.progress,
    )


def check_filled(network: nn.Module, placement: Placement) -> None:
    """Assert that nothing is left on the meta device, unless that was the target."""
    if torch.device(placement.device).type != "meta":
        check_materialised(network)


def _quantizer(network: nn.Module, kind: str) -> Quantizer | None:
    """A quantizer for the linear layers of the language model.

    Embeddings, norms and a vision tower, which is small, are not quantized.
    """
    if kind == "none":
        return None
    layers = network.named_modules()
    weights = {
        f"{name}.weight"
        for name, layer in layers
        if isinstance(layer, nn.Linear) and "visual." not in name
    }
    return Quantizer(kind, lambda name, _: name in weights)


def _stored_dtype(dtypes: set[torch.dtype], name: str) -> torch.dtype:
    if len(dtypes) == 1 and dtypes <= set(_COMPUTE_DTYPES):
        return next(iter(dtypes))
    found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    raise CheckpointError(
        f"The {name} text encoder is stored as {found}; it can only run in float32, bfloat16 or "
        "float16. Pass the dtype to use."
    )


def read_config(folder: Path, *, model_types: tuple[str, ...]) -> dict[str, Any]:
    """Read a text encoder's `config.json`; `CheckpointError` for an unknown `model_type`."""
    path = folder / "config.json"
    config = read_json(path)
    if config.get("model_type") not in model_types:
        raise CheckpointError(
            f"{path} has model_type {config.get('model_type')!r}; this EasyAnimate version needs "
            f"{' or '.join(model_types)}. The folder belongs to another model or version."
        )
    return config
