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


@dataclass
class ErrorSums:
    """The error of a weight, accumulated piece by piece: sums over its values."""

    num_values: int = 0
    reference_squared: float = 0.0
    reference_by_difference: float = 0.0
    difference_squared: float = 0.0
    largest: float = 0.0

    @classmethod
    def between(cls, reference: Tensor, result: Tensor) -> ErrorSums:
        """Of a piece as read from the source, and as read back from the target."""
        reference, result = (
            torch.atleast_2d(part.float()).flatten(1) for part in (reference, result)
        )
        difference = result - reference
        low, high = difference.aminmax()
        return cls(
            reference.numel(),
            _product(reference, reference),
            _product(reference, difference),
            _product(difference, difference),
            max(-float(low), float(high)),
        )

    def add(self, piece: ErrorSums) -> None:
        """Add the sums of another piece."""
        self.num_values += piece.num_values
        self.reference_squared += piece.reference_squared
        self.reference_by_difference += piece.reference_by_difference
        self.difference_squared += piece.difference_squared
        self.largest = max(self.largest, piece.largest)

    def layer(self, name: str, kind: str) -> LayerError:
        """The accumulated error."""
        reference, difference = self.reference_squared, self.difference_squared
        product = reference + self.reference_by_difference
        result = product + self.reference_by_difference + difference
        lengths = math.sqrt(reference * max(result, 0.0))
        both_zero = reference == difference == 0
        return LayerError(
            name,
            kind,
            self.num_values,
            math.sqrt(difference / reference) if reference else 0.0,
            self.largest,
            product / lengths if lengths else float(both_zero),
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
