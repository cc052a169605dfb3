"""Assigning tensors to a network built on the meta device, completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from ...progress import Progress, silent
from ..stored import (
    Quantizer,
    ScaledWeight,
    Stored,
    quantized_from_values,
    use_quantized_layers,
)

_SHOWN = 6

Network = TypeVar("Network", bound=nn.Module)
Value = TypeVar("Value")


def load_network(
    build: Callable[[], Network],
    tensors: Mapping[str, Stored],
    *,
    what: str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    quantizer: Quantizer | None = None,
    progress: Progress = silent,
) -> Network:
    """Build a network on the meta device, assign `tensors`, and make it ready for inference.

    Memory-mapped tensors stay mapped and are read from disk only on use, or converted one by one if
    another `dtype` or `device` is requested.

    Args:
        build: Creates the network; called under the meta device.
        tensors: The weights, in any form in which they may be stored, by the network's own names.
        what: The network's name for error messages.
        dtype: Storage dtype; None keeps the files'. 8-bit weights with a scale are kept.
        device: Device for the weights.
        quantizer: Which weights to quantize, and how; None quantizes none.
        progress: Reports the stage "load".

    Raises:
        CheckpointError: Tensors are missing, unexpected or of the wrong shape; the message lists
            them.
    """
    network = build_on_meta(build, what=what)
    assign_tensors(
        network,
        tensors,
        what=what,
        dtype=dtype,
        device=device,
        quantizer=quantizer,
        progress=progress,
    )
    check_materialised(network)
    return network


def build_on_meta(build: Callable[[], Network], *, what: str) -> Network:
    """The network without memory for its weights; `CheckpointError` if its config is impossible."""
    try:
        with torch.device("meta"):
            return build()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The config.json of the {what} contradicts itself ({error}). Download it again."
        ) from error


class Renamed(Mapping[str, Value], Generic[Value]):
    """Tensors under other names; those for which `rename` returns None are left out."""

    def __init__(self, tensors: Mapping[str, Value], rename: Callable[[str], str | None]) -> None:
        self._tensors = tensors
        self._stored = {new: name for name in tensors if (new := rename(name)) is not None}

    def __getitem__(self, name: str) -> Value:
        return self._tensors[self._stored[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def assign_tensors(
    network: nn.Module,
    tensors: Mapping[str, Stored],
    *,
    what: str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    quantizer: Quantizer | None = None,
    progress: Progress = silent,
) -> None:
    """Replace the parameters of a network on the meta device by `tensors`, and freeze it.

    Tensors are converted and quantised one by one, so that the network never exists twice.
    Reports the stage "load". Raises `CheckpointError` like `load_network`.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    check_complete(expected, {name: tensors[name].shape for name in tensors}, what=what)
    quantized = {name for name in tensors if isinstance(tensors[name], ScaledWeight)}
    if quantizer is not None:
        quantized |= {name for name in tensors if quantizer.selects(name, expected[name])}
    use_quantized_layers(network, quantized)
    placed: dict[str, Tensor] = {}
    for name in tensors:
        if name in quantized:
            placed[name] = _in_fewer_bits(name, tensors[name], quantizer).to(device)
        else:
            copies = quantizer is not None
            placed[name] = _converted(tensors[name], dtype, device, copies=copies)
        progress("load", len(placed), len(tensors))
    network.load_state_dict(placed, strict=True, assign=True)
    network.requires_grad_(False).eval()


def _in_fewer_bits(name: str, weight: Stored, quantizer: Quantizer | None) -> Tensor:
    """The weight in the quantizer's kind; weights stored in 8 bits are not rounded to 8 again."""
    if isinstance(weight, ScaledWeight) and (quantizer is None or quantizer.kind != "qint4"):
        return quantized_from_values(weight.values, weight.scale)
    assert quantizer is not None
    plain = weight if isinstance(weight, Tensor) else weight.dequantize(torch.float32)
    try:
        return quantizer(plain)
    except CheckpointError as error:
        raise CheckpointError(
            f"{name} cannot be quantised. {error} Its file is damaged: download it again."
        ) from error


def _converted(
    weight: Stored, dtype: torch.dtype | None, device: torch.device | str, *, copies: bool
) -> Tensor:
    """Like `Tensor.to`; `copies` if a weight that stays mapped would keep its file's map alive.

    The map also keeps the pages of converted weights, and on Windows its whole commit charge.
    """
    if copies and isinstance(weight, Tensor):
        return weight.to(device=device, dtype=dtype, copy=True)
    return weight.to(device=device, dtype=dtype)


def check_materialised(network: nn.Module) -> None:
    """Assert that no parameter and no buffer is left on the meta device."""
    left = [name for name, tensor in network.named_parameters() if tensor.is_meta]
    left += [name for name, tensor in network.named_buffers() if tensor.is_meta]
    assert not left, f"left on the meta device: {left}"


def check_complete(
    expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]], *, what: str
) -> None:
    """Raise `CheckpointError` unless `found` has exactly the `expected` names and shapes."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [
        f"{name} is {tuple(found[name])} and should be {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    faults = [
        f"{len(names)} {fault}: {_some(names)}"
        for fault, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of the wrong shape", misshapen),
        )
        if names
    ]
    if faults:
        raise CheckpointError(
            f"The tensors do not fit the {what}. " + "; ".join(faults) + ". "
            "The files are incomplete or belong to another model: download them again."
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + rest
