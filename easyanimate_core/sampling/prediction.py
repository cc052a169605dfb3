"""What the denoiser predicts: a velocity, which means something else in each model generation.

Noisy latents are a mix of clean latents and unit Gaussian noise. Sampling, training and the nodes
mix them, and take them apart again, by the formulas in this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ..models.specs import Version
from .noise_levels import TRAINED_STEPS, alphas_cumprod


class Levels(NamedTuple):
    """Factors of the clean latents (`signal`) and of the noise (`spread`) in noisy latents."""

    signal: Tensor
    spread: Tensor

    @classmethod
    def of_share(cls, share: Tensor) -> Levels:
        """Where the clean latents have this share of the variance, and the noise has the rest."""
        return cls(share.sqrt(), (1 - share).sqrt())

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Clean latents with noise, as the denoiser is shown them."""
        return self.signal * clean + self.spread * noise


class Prediction(Protocol):
    """How a model generation is noised, and what its velocity is.

    Levels have the shape of what they are asked for, and must broadcast with the latents.
    """

    def timesteps(self, times: Tensor) -> Tensor:
        """Timesteps that the denoiser is told in training, of times in [0, 1]: 1 is noise."""

    def levels(self, timesteps: Tensor) -> Levels:
        """The levels of timesteps."""

    def levels_of_sigma(self, sigma: Tensor) -> Levels:
        """The levels of what samplers call sigma."""

    def target(self, clean: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        """The velocity that the denoiser is trained to predict."""

    def clean(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        """The clean latents that a velocity leads to."""

    def velocity(self, latents: Tensor, clean: Tensor, levels: Levels) -> Tensor:
        """The velocity that leads to `clean`: the inverse of `clean`."""


class FlowPrediction:
    """V5.1: the straight line from clean latents to noise. Sigma is the share of the noise.

    Source: Lipman et al., arXiv 2210.02747; Esser et al., arXiv 2403.03206.
    """

    def timesteps(self, times: Tensor) -> Tensor:
        return times * TRAINED_STEPS

    def levels(self, timesteps: Tensor) -> Levels:
        return self.levels_of_sigma(timesteps / TRAINED_STEPS)

    def levels_of_sigma(self, sigma: Tensor) -> Levels:
        return Levels(1 - sigma, sigma)

    def target(self, clean: Tensor, noise: Tensor, levels: Levels) -> Tensor:  # noqa: ARG002
        return noise - clean

    def clean(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        return latents - levels.spread * velocity

    def velocity(self, latents: Tensor, clean: Tensor, levels: Levels) -> Tensor:
        return (latents - clean) / levels.spread


class VPrediction:
    """V5: diffusion that keeps the variance. Sigma is the noise per unit of clean latents.

    Source: Salimans and Ho, arXiv 2202.00512.

    Args:
        shares: The clean latents' share of the variance at every timestep
            (`noise_levels.alphas_cumprod`).
    """

    def __init__(self, shares: Tensor) -> None:
        self.shares = shares

    def timesteps(self, times: Tensor) -> Tensor:
        return (times * TRAINED_STEPS).long().clamp(0, TRAINED_STEPS - 1).to(times)

    def levels(self, timesteps: Tensor) -> Levels:
        return Levels.of_share(self.shares.to(timesteps.device)[timesteps.long()])

    def levels_of_sigma(self, sigma: Tensor) -> Levels:
        signal = 1 / (sigma**2 + 1) ** 0.5
        return Levels(signal, sigma * signal)

    def target(self, clean: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        return levels.signal * noise - levels.spread * clean

    def clean(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        return levels.signal * latents - levels.spread * velocity

    def noise(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        """The noise that a velocity leads away from."""
        return levels.signal * velocity + levels.spread * latents

    def velocity(self, latents: Tensor, clean: Tensor, levels: Levels) -> Tensor:
        return (levels.signal * latents - clean) / levels.spread


def prediction_of(version: Version, scheduler_config: Mapping[str, Any]) -> Prediction:
    """What a model generation was trained to predict, by its `scheduler_config.json`."""
    if version is Version.V5_1:
        return FlowPrediction()
    return VPrediction(alphas_cumprod(scheduler_config))
