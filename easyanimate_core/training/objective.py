"""What the denoiser learns: from noisy latents and timesteps to the velocity.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..models.specs import Version
from ..sampling.noise_levels import TRAINED_STEPS, alphas_cumprod
from .config import ObjectiveConfig


@dataclass(frozen=True)
class Question:
    """`noisy` latents at `timesteps` [B] (0 to 1000), and their `target` velocity."""

    noisy: Tensor
    timesteps: Tensor
    target: Tensor


class Objective(Protocol):
    """How a model generation adds noise to latents."""

    def ask(self, latents_BCFHW: Tensor, noise_BCFHW: Tensor, times_B: Tensor) -> Question:
        """The question at `times` in (0, 1), where 0 is clean and 1 is noise."""


class FlowMatching:
    """V5.1: the straight line from latents to noise; its velocity is noise - latents.

    Source: Lipman et al., arXiv 2210.02747; Esser et al., arXiv 2403.03206.
    """

    def ask(self, latents_BCFHW: Tensor, noise_BCFHW: Tensor, times_B: Tensor) -> Question:
        share = times_B.view(-1, 1, 1, 1, 1)
        noisy = (1 - share) * latents_BCFHW + share * noise_BCFHW
        return Question(noisy, times_B * TRAINED_STEPS, noise_BCFHW - latents_BCFHW)


class VPrediction:
    """V5: diffusion in `TRAINED_STEPS` steps; the velocity of Salimans and Ho, arXiv 2202.00512."""

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        self._shares = alphas_cumprod(scheduler_config)

    def ask(self, latents_BCFHW: Tensor, noise_BCFHW: Tensor, times_B: Tensor) -> Question:
        steps = (times_B * TRAINED_STEPS).long().clamp(0, TRAINED_STEPS - 1)
        shares = self._shares.to(latents_BCFHW)[steps].view(-1, 1, 1, 1, 1)
        signal, spread = shares.sqrt(), (1 - shares).sqrt()
        noisy = signal * latents_BCFHW + spread * noise_BCFHW
        target = signal * noise_BCFHW - spread * latents_BCFHW
        return Question(noisy, steps.to(latents_BCFHW.dtype), target)


def objective_of(version: Version, scheduler_config: Mapping[str, Any]) -> Objective:
    """The training objective of a model generation."""
    return FlowMatching() if version is Version.V5_1 else VPrediction(scheduler_config)


def draw_times(config: ObjectiveConfig, count: int, random: np.random.Generator) -> Tensor:
    """`count` times in (0, 1), float32. Uniform ones are stratified over the range.

    Stratifying makes the loss of a batch less noisy without changing its expectation.
    """
    if config.timesteps == "uniform":
        times = (random.permutation(count) + random.random(count)) / count
    else:
        times = 1 / (1 + np.exp(-random.normal(config.logit_mean, config.logit_std, count)))
    times = config.shift * times / (1 + (config.shift - 1) * times)
    return torch.from_numpy(times).float()
