"""Jumps along a denoiser's trajectory: where they begin and end, and what velocity makes them.

A jump goes from one time to another, 1 noise and 0 clean, in one step of DDIM (arXiv 2010.02502),
which for flow matching is Euler's. Shapes: B batch; latents are [B, C, F, H, W].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.specs import Version
from ..sampling import FLOW_SHIFT, Prediction
from ..sampling.noise_levels import TRAINED_STEPS
from ..sampling.prediction import Levels

#: Predicts the velocity from (latents, timesteps [B]).
Velocity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Place:
    """A time on the trajectory: the timesteps [B] that the denoiser is told, and the levels."""

    timesteps: Tensor
    levels: Levels


@dataclass(frozen=True)
class Trajectory:
    """The way from noise to clean latents, on which samplers space their steps evenly.

    Flow matching shifts times towards noise by `shift`; V5's timesteps are whole, and the one of a
    time is that of "trailing" schedulers, `offset` timesteps before it.
    """

    prediction: Prediction
    shift: float
    offset: float

    @classmethod
    def of(cls, version: Version, prediction: Prediction) -> Trajectory:
        """That of the default scheduler of a model generation."""
        if version is Version.V5_1:
            return cls(prediction, FLOW_SHIFT, 0.0)
        return cls(prediction, 1.0, 0.5)  # they are rounded down

    def at(self, times_B: Tensor) -> Place:
        """The place at these times, 1 for noise and 0 for clean latents."""
        shifted = self.shift * times_B / (1 + (self.shift - 1) * times_B)
        timesteps = self.prediction.timesteps(shifted - self.offset / TRAINED_STEPS)
        signal, spread = self.prediction.levels(timesteps.view(-1, 1, 1, 1, 1))
        is_end = (times_B == 0).view(-1, 1, 1, 1, 1)
        return Place(
            timesteps, Levels(signal.masked_fill(is_end, 1.0), spread.masked_fill(is_end, 0.0))
        )

    def step(self, latents: Tensor, velocity: Tensor, now: Place, then: Place) -> Tensor:
        """The latents at `then`, from those at `now` and the velocity."""
        clean = self.prediction.clean(latents, velocity, now.levels)
        noise = self.prediction.noise(latents, velocity, now.levels)
        return then.levels.noised(clean, noise)

    def velocity(self, latents: Tensor, reached: Tensor, now: Place, then: Place) -> Tensor:
        """The velocity that reaches these latents at `then`; the inverse of `step`."""
        ones = torch.ones_like(now.levels.signal)
        factor = self.step(0 * ones, ones, now, then)
        return (reached - self.step(latents, torch.zeros_like(latents), now, then)) / factor

    def walk(
        self, latents: Tensor, ask: Velocity, times: tuple[Tensor, Tensor], steps: int
    ) -> Tensor:
        """The latents at the end of `times` (each [B]), in `steps` even steps from its start."""
        start_B, end_B = times
        parts = [torch.lerp(start_B, end_B, part / steps) for part in range(steps)] + [end_B]
        now = self.at(parts[0])
        for part in parts[1:]:
            then = self.at(part)
            latents = self.step(latents, ask(latents, now.timesteps), now, then)
            now = then
        return latents


def draw_jumps(jumps: Sequence[int], own: float, count: int, random: np.random.Generator) -> Tensor:
    """Start, end and "own" of `count` jumps, float32 [count, 3].

    Each has the length of one of N steps, N drawn from `jumps`. A share of `own` begins after a
    whole number of steps, which the student has taken itself; for them the third number is 1. Of
    the others, one of N begins at noise, as every run does, the rest anywhere from there to the
    last step, stratified.
    """
    counts = random.choice(np.asarray(jumps), count)
    places = (random.permutation(count) + random.random(count)) / count
    far = np.where(random.random(count) < 1 / counts, 0, (1 - 1 / counts) * places)
    is_own = random.random(count) < own
    far = np.where(is_own, np.floor(places * counts) / counts, far)
    drawn = np.stack([1 - far, 1 - far - 1 / counts, is_own], axis=1)
    return torch.from_numpy(drawn).float().clamp(min=0)
