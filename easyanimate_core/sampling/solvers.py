"""The solvers behind the schedulers: each step uses a velocity to reach the next noise level.

A solver belongs to one run: it counts its steps and keeps the earlier predictions that its order
needs. The arithmetic is that of diffusers' schedulers of the same names, which the tests compare
with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .noise_levels import (
    LEAST_SHARE,
    TRAINED_STEPS,
    alphas_cumprod,
    spaced_timesteps,
)
from .prediction import FlowPrediction, Levels, Prediction, VPrediction

Generators = Sequence[torch.Generator]


@dataclass(frozen=True)
class Setup:
    """What a solver is built from: the checkpoint's `scheduler_config.json` and run settings."""

    config: Mapping[str, Any]
    steps: int
    flow_shift: float
    device: torch.device | str


class Solver(Protocol):
    """Steps through the timesteps returned by `begin`; a run starts at the first of them."""

    @property
    def prediction(self) -> Prediction:
        """What the denoiser predicts."""

    def begin(self, skipped: int) -> Tensor:
        """Skip the first steps (for a strength below 1) and return the remaining timesteps."""

    def start(self, noise: Tensor) -> Tensor:
        """The first latents, from unit noise."""

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Clean latents noised to the timestep at which the run starts."""

    def model_input(self, latents: Tensor) -> Tensor:
        """The latents scaled as the denoiser expects them."""

    def step(self, velocity: Tensor, latents: Tensor, generators: Generators) -> Tensor:
        """The latents at the next timestep."""


class _Walk:
    """The solvers' common state: their timesteps and the current position.

    The denoiser's timesteps are made once, on its device; steps are computed with numbers of the
    CPU, because reading one from the device waits for it.
    """

    prediction: Prediction

    def __init__(self, timesteps: Tensor) -> None:
        self.timesteps = timesteps
        self._index = 0

    def begin(self, skipped: int) -> Tensor:
        self._index = skipped
        return self.timesteps[skipped:]

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        return self.prediction.levels(self.timesteps[self._index]).noised(clean, noise)

    def model_input(self, latents: Tensor) -> Tensor:
        return latents


class Flow(_Walk):
    """Euler's method along the straight lines of flow matching.

    With a dynamic shift, as in the published models, the timesteps are shifted by the run's
    `flow_shift`; otherwise by the config's `shift`.
    """

    def __init__(self, setup: Setup) -> None:
        self.prediction = FlowPrediction()
        shift = setup.flow_shift
        low = float(np.float32(1 / TRAINED_STEPS))  # as the published models were sampled
        if not setup.config.get("use_dynamic_shifting"):
            shift = float(setup.config.get("shift", 1.0))
            low = shift * low / (1 + (shift - 1) * low)
        even = np.linspace(TRAINED_STEPS, TRAINED_STEPS * low, setup.steps) / TRAINED_STEPS
        moved = shift / (shift + (1 / even - 1))
        sigmas = torch.from_numpy(moved).to(torch.float32)
        super().__init__((sigmas * TRAINED_STEPS).to(setup.device))
        self._sigmas = torch.cat([sigmas, torch.zeros(1)])

    def step(self, velocity: Tensor, latents: Tensor, generators: Generators) -> Tensor:  # noqa: ARG002
        now, following = self._sigmas[self._index], self._sigmas[self._index + 1]
        self._index += 1
        return latents + (following - now) * velocity


class _Strided(_Walk):
    """Every step goes down by a fixed number of timesteps; below zero is the clean result."""

    def __init__(
        self, setup: Setup, timesteps: np.ndarray[Any, Any], shares: Tensor, *, is_clean: bool
    ) -> None:
        rounded = timesteps.round().astype(np.int64)
        super().__init__(torch.from_numpy(rounded).to(setup.device))
        self._numbers: list[int] = rounded.tolist()
        self.prediction: VPrediction = VPrediction(shares)
        self._stride = TRAINED_STEPS // setup.steps
        self._last = torch.tensor(1.0) if is_clean else shares[0]

    def _share(self, timestep: int) -> Tensor:
        return self.prediction.shares[timestep] if timestep >= 0 else self._last


class Ddim(_Strided):
    """Song et al., arXiv 2010.02502, without added noise."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        spaced = spaced_timesteps(config, setup.steps, "leading")
        is_clean = bool(config.get("set_alpha_to_one", True))
        super().__init__(setup, spaced, alphas_cumprod(config), is_clean=is_clean)
        is_clipped = config.get("clip_sample", True)
        self._clip = config.get("clip_sample_range", 1.0) if is_clipped else None

    def step(self, velocity: Tensor, latents: Tensor, generators: Generators) -> Tensor:  # noqa: ARG002
        timestep = self._numbers[self._index]
        levels = Levels.of_share(self._share(timestep))
        clean = self.prediction.clean(latents, velocity, levels)
        noise = self.prediction.noise(latents, velocity, levels)
        if self._clip is not None:
            clean = clean.clamp(-self._clip, self._clip)
        self._index += 1
        return Levels.of_share(self._share(timestep - self._stride)).noised(clean, noise)


class Pndm(_Strided):
    """Liu et al., arXiv 2202.09778: three Runge-Kutta steps, then the Adams-Bashforth method.

    A Runge-Kutta step evaluates four timesteps: its start, the middle twice, and its end. A run
    always starts with the three, even if earlier steps are skipped; diffusers skips them instead.
    """

    _START, _PARTS = 3, 4

    def __init__(self, setup: Setup) -> None:
        spaced = spaced_timesteps(setup.config, setup.steps, "leading")
        shares = alphas_cumprod(setup.config, rescale=False)
        is_clean = bool(setup.config.get("set_alpha_to_one", False))
        super().__init__(setup, spaced, shares, is_clean=is_clean)
        self._half = TRAINED_STEPS // setup.steps // 2
        self._before: list[Tensor] = []

    def begin(self, skipped: int) -> Tensor:
        spaced = self._numbers[skipped:]
        start: list[int] = []
        for now, following in pairwise(spaced[: self._START + 1]):
            start += [now, following + self._half, following + self._half, following]
        self._numbers = [*start, *spaced[self._START :]]
        self.timesteps = self.timesteps.new_tensor(self._numbers)
        return self.timesteps

    def step(self, velocity: Tensor, latents: Tensor, generators: Generators) -> Tensor:  # noqa: ARG002
        timestep, part = self._numbers[self._index], self._index % self._PARTS
        origin = self._numbers[self._index - part]
        self._index += 1
        if self._index > self._START * self._PARTS:
            velocity = self._extrapolated(velocity)
            return self._moved(latents, timestep, timestep - self._stride, velocity)
        if part == 0:
            self._before.append(velocity)
            self._from, self._sum = latents, velocity / 6
        elif part < self._PARTS - 1:
            self._sum = self._sum + velocity / 3
        else:
            velocity = self._sum + velocity / 6
        return self._moved(self._from, origin, timestep - (0, self._half)[part % 2 == 0], velocity)

    def _extrapolated(self, velocity: Tensor) -> Tensor:
        """The velocity up to the next timestep, from this one and the three before."""
        first, second, third = self._before[-3:]
        self._before = [second, third, velocity]
        return (55 * velocity - 59 * third + 37 * second - 9 * first) / 24

    def _moved(self, latents: Tensor, timestep: int, following: int, velocity: Tensor) -> Tensor:
        """Formula (9) of the paper."""
        share, then = self._share(timestep), self._share(following)
        noise = self.prediction.noise(latents, velocity, Levels.of_share(share))
        divisor = share * (1 - then) ** 0.5 + (share * (1 - share) * then) ** 0.5
        return (then / share) ** 0.5 * latents - (then - share) * noise / divisor


class _BySigma(_Walk):
    """Solvers in terms of sigma, which is 0 at the end."""

    def __init__(self, setup: Setup, timesteps: np.ndarray[Any, Any]) -> None:
        shares = alphas_cumprod(setup.config)
        if setup.config.get("rescale_betas_zero_snr"):
            shares[-1] = LEAST_SHARE
        super().__init__(torch.from_numpy(timesteps).to(setup.device))
        self.prediction = VPrediction(shares)
        of_all = ((1 - shares) / shares) ** 0.5
        sigmas = np.interp(timesteps, np.arange(TRAINED_STEPS), of_all.numpy())
        self._sigmas = torch.from_numpy(np.append(sigmas, 0.0)).to(torch.float32)


class Euler(_BySigma):
    """Karras et al., arXiv 2206.00364, algorithm 1 without added noise.

    Sigmas are float64: with a zero terminal SNR the first is 4096, and the first step computes a
    small difference of numbers of that size.
    """

    def __init__(self, setup: Setup) -> None:
        spaced = spaced_timesteps(setup.config, setup.steps, "linspace")
        super().__init__(setup, spaced.astype(np.float32))
        largest = self._sigmas.max()
        is_leading = setup.config.get("timestep_spacing", "linspace") == "leading"
        self._first = (largest**2 + 1) ** 0.5 if is_leading else largest
        self._sigmas = self._sigmas.double()

    def start(self, noise: Tensor) -> Tensor:
        return noise * self._first

    def noised(self, clean: Tensor, noise: Tensor) -> Tensor:
        return clean + noise * self._sigmas[self._index]

    def model_input(self, latents: Tensor) -> Tensor:
        return latents * self.prediction.levels_of_sigma(self._sigmas[self._index]).signal

    def step(self, velocity: Tensor, latents: Tensor, generators: Generators) -> Tensor:
        now, following = self._sigmas[self._index], self._sigmas[self._index + 1]
        target, added = self._target(now, following)
        levels = self.prediction.levels_of_sigma(now)
        clean = self.prediction.clean(self.model_input(latents), velocity, levels)
        moved = latents + (latents - clean) / now * (target - now)
        self._index += 1
        return moved if added is None else moved + _noise_like(velocity, generators) * added

    def _target(self, now: Tensor, following: Tensor) -> tuple[Tensor, Tensor | None]:
        """The sigma that a step moves to, and that of the noise added afterwards."""
        del now
        return following, None


class EulerAncestral(Euler):
    """Euler's method with a longer step, then new noise up to the next sigma."""

    def _target(self, now: Tensor, following: Tensor) -> tuple[Tensor, Tensor | None]:
        added = (following**2 * (now**2 - following**2) / now**2) ** 0.5
        return (following**2 - added**2) ** 0.5, added


class DpmSolver(_BySigma):
    """Second-order DPM-Solver++, midpoint variant (Lu et al., arXiv 2211.01095)."""

    def __init__(self, setup: Setup) -> None:
        steps = setup.steps
        spaced = spaced_timesteps(setup.config, steps, "linspace", points=steps + 1)
        super().__init__(setup, spaced.round().astype(np.int64))
        self._before: Tensor | None = None

    def step(self, velocity: Tensor, latents: Tensor, generators: Generators) -> Tensor:  # noqa: ARG002
        index = self._index
        now, then = self._levels(index), self._levels(index + 1)
        clean = self.prediction.clean(latents, velocity, now)
        distance = self._log_ratio(index + 1) - self._log_ratio(index)
        factor = then.signal * (torch.exp(-distance) - 1.0)
        moved = then.spread / now.spread * latents - factor * clean
        if self._before is not None and index < len(self.timesteps) - 1:
            ratio = (self._log_ratio(index) - self._log_ratio(index - 1)) / distance
            moved = moved - 0.5 * factor * ((clean - self._before) / ratio)
        self._before = clean
        self._index += 1
        return moved

    def _levels(self, index: int) -> Levels:
        return self.prediction.levels_of_sigma(self._sigmas[index])

    def _log_ratio(self, index: int) -> Tensor:
        levels = self._levels(index)
        return torch.log(levels.signal) - torch.log(levels.spread)


def _noise_like(velocity: Tensor, generators: Generators) -> Tensor:
    """Noise from one generator per sample, or from a single one for all."""
    shape, device = velocity.shape, generators[0].device
    if len(generators) > 1:
        shape = torch.Size((1, *shape[1:]))
    drawn = [
        torch.randn(shape, generator=g, dtype=velocity.dtype, device=device) for g in generators
    ]
    noise = torch.cat(drawn)
    if velocity.device.type == "cuda":  # only a copy of page-locked memory does not wait
        noise = noise.pin_memory()
    return noise.to(velocity.device, non_blocking=True)


#: Scheduler name to its solver.
SOLVERS: Mapping[str, Callable[[Setup], Solver]] = {
    "Flow": Flow,
    "Euler": Euler,
    "Euler A": EulerAncestral,
    "DPM++": DpmSolver,
    "PNDM": Pndm,
    "DDIM": Ddim,
}
