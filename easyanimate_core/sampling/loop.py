"""The denoising loop. It depends on a denoiser and a schedule, not on the network.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..progress import Progress, silent
from .guidance import Denoiser, Guidance
from .schedulers import Schedule
from .step_cache import Step, plan_steps


@dataclass(frozen=True)
class SamplingRun:
    """How one run samples: its schedule, its guidance and one generator per sample.

    With `sequential`, the negative and the positive prompt are predicted one after the other.
    `step_cache` is the share of steps that are left out.
    """

    schedule: Schedule
    guidance: Guidance
    generators: Sequence[torch.Generator]
    sequential: bool = False
    step_cache: float = 0.0

    @property
    def plan(self) -> tuple[Step, ...]:
        """How each step gets its prediction."""
        return plan_steps(len(self.schedule.timesteps), self.step_cache, self.guidance.window)


def draw_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Unit Gaussian noise [B, *shape] in float32, one CPU generator per sample.

    It is drawn on the CPU, so a seed gives the same noise on every device, and per sample, so a
    seed gives the same sample in a batch as by itself.
    """
    return torch.cat([torch.randn((1, *shape), generator=g) for g in generators])


def denoise(
    denoiser: Denoiser,
    schedule: Schedule,
    latents_BCFHW: Tensor,
    *,
    generators: Sequence[torch.Generator],
    progress: Progress = silent,
) -> Tensor:
    """Run the schedule from `latents_BCFHW` (float32) to clean latents.

    Args:
        denoiser: (latents, timestep) to the predicted velocity.
        schedule: Scheduler and timesteps of this run.
        latents_BCFHW: Result of `Schedule.start`.
        generators: One per sample, for schedulers that add noise at each step (Euler A).
        progress: Reports the stage "denoise"; may raise to cancel.
    """
    solver = schedule.solver
    total = len(schedule.timesteps)
    progress("denoise", 0, total)
    for index, timestep in enumerate(schedule.timesteps):
        velocity = denoiser(solver.model_input(latents_BCFHW), timestep)
        latents_BCFHW = solver.step(velocity, latents_BCFHW, generators)
        progress("denoise", index + 1, total)
    return latents_BCFHW
