"""What the denoiser learns: from noisy latents and timesteps to the velocity.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.specs import Version
from ..sampling import Prediction, prediction_of
from .config import ObjectiveConfig


@dataclass(frozen=True)
class Question:
    """`noisy` latents at `timesteps` [B] (0 to 1000), and their `target` velocity."""

    noisy: Tensor
    timesteps: Tensor
    target: Tensor


@dataclass(frozen=True)
class Objective:
    """To predict the velocity of a model generation."""

    prediction: Prediction

    def ask(self, latents_BCFHW: Tensor, noise_BCFHW: Tensor, times_B: Tensor) -> Question:
        """The question at `times` in (0, 1): 0 is clean, 1 is noise."""
        timesteps = self.prediction.timesteps(times_B)
        levels = self.prediction.levels(timesteps.view(-1, 1, 1, 1, 1))
        noisy = levels.noised(latents_BCFHW, noise_BCFHW)
        return Question(
            noisy, timesteps, self.prediction.target(latents_BCFHW, noise_BCFHW, levels)
        )


def objective_of(version: Version, scheduler_config: Mapping[str, Any]) -> Objective:
    """The objective that a model generation was trained with."""
    return Objective(prediction_of(version, scheduler_config))


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
