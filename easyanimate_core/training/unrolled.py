"""A denoiser inside the sampling loop, with gradients through some of the steps only.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .lora import without_lora
from .reward_config import RewardConfig


@dataclass(frozen=True)
class Plan:
    """What one batch learns from: sampling steps, first decoded latent frame, step of the tie."""

    learned: frozenset[int]
    first: int
    tied: int | None

    @classmethod
    def drawn(cls, config: RewardConfig, random: np.random.Generator) -> Plan:
        """The draws of a batch, the same on all devices."""
        steps, count = config.steps, config.backprop
        if config.choice == "anywhere":
            learned = frozenset(random.choice(steps, count, replace=False).tolist())
        else:
            count = int(random.integers(1, count + 1)) if config.choice == "up_to" else count
            learned = frozenset(range(steps - count, steps))
        first = 0
        if config.random_start:
            first = int(random.integers(config.latent_frames - config.num_decoded + 1))
        tied = int(random.integers(steps)) if config.tie else None
        return cls(learned, first, tied)


class Unrolled:
    """The denoiser of one run of the sampling loop; counts its steps.

    A step outside `learned` is a constant for the gradients, so that they flow past it through the
    solver alone. With `through_inputs`, they also flow from a step to those before it through what
    the network is shown. After the run, `drift` is the mean squared difference between the
    velocities with and without the LoRA at step `tied`, for the latents of that step as they are.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        rotary_table: Callable[[Tensor], Any],
        *,
        through_inputs: bool,
        around_block: Any = None,
    ) -> None:
        self.rotary_table = rotary_table
        self.drift: Tensor | None = None
        self._network = network
        self._plan = plan
        self._through = through_inputs
        self._around = around_block
        self._step = 0

    def __call__(
        self, latents_BCFHW: Tensor, timestep_B: Tensor, text: Tensor, **given: Any
    ) -> Tensor:
        """The velocity, with or without gradients."""
        step, self._step = self._step, self._step + 1

        def run(latents: Tensor) -> Tensor:
            velocity: Tensor = self._network(
                latents, timestep_B, text, **given, around_block=self._around
            )
            return velocity

        if step == self._plan.tied:
            self.drift = self._drift(run, latents_BCFHW.detach())
        if step not in self._plan.learned:
            return _constant(run, latents_BCFHW)
        return run(latents_BCFHW if self._through else latents_BCFHW.detach())

    def _drift(self, run: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
        with without_lora(self._network):
            start = _constant(run, latents)
        return (run(latents).float() - start.float()).square().mean()


def _constant(run: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """The velocity without a graph.

    Autocast keeps copies of weights that it has cast, and those made here have no graph either:
    they must not be used again by a step that learns.
    """
    with torch.no_grad():
        velocity = run(latents)
    torch.clear_autocast_cache()
    return velocity
