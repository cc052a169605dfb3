"""Loads a checkpoint's tensors into a text network, completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..progress import Progress, silent
from ..weights.files import read_json, read_tensor_files
from ..weights.loading import Renamed, assign_tensors, check_complete, check_materialised
from ..weights.stored import PackedWeight, Quantizer, ScaledWeight, Stored, StoredWeights
from ..weights.stored.storage import UNPACKED_DTYPE

_COMPUTE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_EIGHT_BITS = {torch.float8_e4m3fn, torch.float8_e5m2}


@dataclass(frozen=True)
class Placement:
    """Target of the weights. `dtype=None` keeps the stored dtype; "meta" reads no values.

    `quantization`, one of `memory.QUANTIZATIONS`, applies to the linear layers. Those stored in 8
    bits with a scale stay as they are.
    """

    dtype: torch.dtype | None = None
    device: torch.device | str = "cpu"
    progress: Progress = silent
    quantization: str = "none"


def read_weights(path: Path) -> Mapping[str, Stored]:
    """The weights of a file or folder, in the form that each is stored in."""
    return StoredWeights(read_tensor_files(path))


def fill_network(
    network: nn.Module,
    tensors: Mapping[str, Stored],
    rename: Callable[[str], str | None],
    *,
    name: str,
    placement: Placement,
) -> None:
    """Load `tensors` into a network built on the meta device.

    `rename` maps a stored name to the network's, or to None if the tensor is known but not needed.
    Raises a `CheckpointError` that lists missing, unexpected and misshapen tensors.
    """
    layers = _language_layers(network)
    renamed = _Fitting(Renamed(tensors, rename), layers)
    what = f"{name} text encoder"
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    check_complete(expected, {key: renamed[key].shape for key in renamed}, what=what)
    dtype = placement.dtype or _stored_dtype(renamed, name)
    assign_tensors(
        network,
        renamed,
        what=what,
        dtype=dtype,
        device=placement.device,
        quantizer=_quantizer(layers, placement.quantization),
        progress=placement.progress,
    )


def check_filled(network: nn.Module, placement: Placement) -> None:
    """Assert that nothing is left on the meta device, unless that was the target."""
    if torch.device(placement.device).type != "meta":
        check_materialised(network)


class _Fitting(Mapping[str, Stored]):
    """Weights of which only those of `layers` are in 8 bits; others are unpacked on use."""

    def __init__(self, weights: Mapping[str, Stored], layers: frozenset[str]) -> None:
        self._weights, self._layers = weights, layers

    def __getitem__(self, name: str) -> Stored:
        weight = self._weights[name]
        if isinstance(weight, ScaledWeight) and name not in self._layers:
            return PackedWeight(weight.shape, lambda: weight.dequantize(torch.float32))
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _language_layers(network: nn.Module) -> frozenset[str]:
    """The weights that may be in fewer bits: those of the language model's linear layers.

    Not embeddings, norms or a vision tower, which is small.
    """
    return frozenset(
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and "visual." not in name
    )


def _quantizer(layers: frozenset[str], kind: str) -> Quantizer | None:
    return None if kind == "none" else Quantizer(kind, lambda name, _: name in layers)


def _stored_dtype(weights: Mapping[str, Stored], name: str) -> torch.dtype:
    """The dtype that all weights have; bfloat16 if some are in 8 bits or in blocks."""
    stored = [weights[key] for key in weights]
    dtypes = {weight.dtype for weight in stored if isinstance(weight, Tensor)}
    if dtypes & _EIGHT_BITS or not all(isinstance(weight, Tensor) for weight in stored):
        return UNPACKED_DTYPE
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
