"""Measures how far the target's weights are from the source's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerError:
    """The error of one weight: `kind` is its new format, `largest` the largest absolute error."""

    name: str
    kind: str
    num_values: int
    relative_rms: float
    largest: float
    cosine: float


@dataclass(frozen=True)
class ProbeResult:
    """Source compared with target on the same random latents and text.

    `cosine` and `psnr` (dB, infinite if equal) compare the predictions at `timesteps`;
    `frames_psnr` compares the decoded frames of a short run, None without one.
    """

    timesteps: tuple[int, ...]
    cosine: tuple[float, ...]
    psnr: tuple[float, ...]
    frames_psnr: float | None


@dataclass(frozen=True)
class Fidelity:
    """The result of a conversion: sizes in bytes, and the error of every weight that changed.

    `notes` are sentences about deviations from the request and about copied files.
    """

    source: str
    target: str
    part: str
    dtype: str
    bytes_before: int
    bytes_after: int
    seconds: float
    num_weights: int
    layers: tuple[LayerError, ...]
    notes: tuple[str, ...] = ()
    probe: ProbeResult | None = None

    @property
    def worst_first(self) -> list[LayerError]:
        """The changed layers, largest relative error first."""
        return sorted(self.layers, key=lambda layer: -layer.relative_rms)

    @property
    def relative_rms(self) -> float:
        """Over the changed layers, weighted by their number of values."""
        total = sum(layer.num_values for layer in self.layers)
        squares = sum(layer.num_values * layer.relative_rms**2 for layer in self.layers)
        return math.sqrt(squares / total) if total else 0.0


class ErrorSums:
    """Accumulates the error of one weight piece by piece."""

    def __init__(self) -> None:
        self._reference = self._result = self._product = self._difference = 0.0
        self._largest = 0.0
        self._count = 0

    def add(self, reference: Tensor, result: Tensor) -> None:
        """Add a piece of the weight as read from the source, and as read back from the target."""
        reference, result = (
            torch.atleast_2d(part.float()).flatten(1) for part in (reference, result)
        )
        self._count += reference.numel()
        self._reference += _product(reference, reference)
        self._result += _product(result, result)
        self._product += _product(reference, result)
        difference = result - reference
        self._difference += _product(difference, difference)
        self._largest = max(self._largest, float(torch.linalg.vector_norm(difference, torch.inf)))

    def layer(self, name: str, kind: str) -> LayerError:
        """The accumulated error."""
        lengths = math.sqrt(self._reference * self._result)
        both_zero = self._reference == self._result == 0
        return LayerError(
            name,
            kind,
            self._count,
            math.sqrt(self._difference / self._reference) if self._reference else 0.0,
            self._largest,
            self._product / lengths if lengths else float(both_zero),
        )


def psnr(reference: Tensor, result: Tensor, *, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB; `peak=None` uses the reference's range."""
    reference, result = reference.float(), result.float()
    error = float((reference - result).square().mean(dtype=torch.float64))
    if peak is None:
        peak = float(reference.max() - reference.min())
    return 10 * math.log10(peak**2 / error) if error else math.inf


def _product(a_NK: Tensor, b_NK: Tensor) -> float:
    """Dot products in float32, summed in float64: five times as fast as float64 throughout."""
    return float(torch.linalg.vecdot(a_NK, b_NK).sum(dtype=torch.float64))
