"""What the denoiser predicts: a velocity, defined differently in each model generation.

Noisy latents are a mix of clean latents and unit Gaussian noise. Sampling, training and the nodes
mix and separate the two with the formulas in this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..models.specs import Version
from .noise_levels import TRAINED_STEPS, alphas_cumprod


class Levels(NamedTuple):
    """Factors of the clean latents (`signal`) and the noise (`spread`) in noisy latents."""

    signal: Tensor
    spread: Tensor

    @classmethod
    def of_share(cls, share: Tensor) -> Levels:
        """Levels at which the clean latents have this share of the variance, the noise the rest."""
        return cls(share.sqrt(), (1 - share).sqrt())

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Clean latents with noise added, as the denoiser sees them."""
        return self.signal * clean + self.spread * noise


class Prediction(Protocol):
    """How a model generation adds noise, and how it defines the velocity.

    Levels have the shape of the timesteps or sigmas, which must broadcast with the latents.
    """

    def timesteps(self, times: Tensor) -> Tensor:
        """The timesteps passed to the denoiser in training, for times in [0, 1]; 1 is noise."""

    def levels(self, timesteps: Tensor) -> Levels:
        """The levels at these timesteps."""

    def levels_of_sigma(self, sigma: Tensor) -> Levels:
        """The levels at the samplers' sigma."""

    def target(self, clean: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        """The velocity that the denoiser is trained to predict."""

    def clean(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        """The clean latents implied by a velocity."""

    def noise(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        """The noise implied by a velocity."""

    def velocity(self, latents: Tensor, clean: Tensor, levels: Levels) -> Tensor:
        """The velocity that implies these clean latents; the inverse of `clean`."""


class FlowPrediction:
    """V5.1: a straight line from clean latents to noise. Sigma is the noise's share.

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

    def noise(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        return latents + levels.signal * velocity

    def velocity(self, latents: Tensor, clean: Tensor, levels: Levels) -> Tensor:
        return (latents - clean) / levels.spread


class VPrediction:
    """V5: variance-preserving diffusion. Sigma is the noise relative to the clean latents.

    Source: Salimans and Ho, arXiv 2202.00512.

    Args:
        shares: The clean latents' share of the variance at every timestep
            (`noise_levels.alphas_cumprod`).
    """

    def __init__(self, shares: Tensor) -> None:
        self.shares = shares
        self._copies: dict[torch.device, Tensor] = {}

    def timesteps(self, times: Tensor) -> Tensor:
        return (times * TRAINED_STEPS).long().clamp(0, TRAINED_STEPS - 1).to(times)

    def levels(self, timesteps: Tensor) -> Levels:
        # `take`: an index of one number would wait for the device.
        return Levels.of_share(self._shares_on(timesteps.device).take(timesteps.long()))

    def _shares_on(self, device: torch.device) -> Tensor:
        """Copied to the device once: a copy waits for what it computes."""
        if device not in self._copies:
            self._copies[device] = self.shares.to(device)
        return self._copies[device]

    def levels_of_sigma(self, sigma: Tensor) -> Levels:
        signal = 1 / (sigma**2 + 1) ** 0.5
        return Levels(signal, sigma * signal)

    def target(self, clean: Tensor, noise: Tensor, levels: Levels) -> Tensor:
        return levels.signal * noise - levels.spread * clean

    def clean(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        return levels.signal * latents - levels.spread * velocity

    def noise(self, latents: Tensor, velocity: Tensor, levels: Levels) -> Tensor:
        return levels.signal * velocity + levels.spread * latents

    def velocity(self, latents: Tensor, clean: Tensor, levels: Levels) -> Tensor:
        return (levels.signal * latents - clean) / levels.spread


def prediction_of(version: Version, scheduler_config: Mapping[str, Any]) -> Prediction:
    """The prediction of a model generation, from its `scheduler_config.json`."""
    if version is Version.V5_1:
        return FlowPrediction()
    return VPrediction(alphas_cumprod(scheduler_config))
