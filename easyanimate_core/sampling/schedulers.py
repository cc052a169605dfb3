"""The original's six schedulers by name, built from the checkpoint's config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import SchedulerError, counted
from ..models.specs import Version
from .noise_levels import TRAINED_STEPS, check_config
from .prediction import Prediction
from .solvers import SOLVERS, Setup, Solver

#: Scheduler name to the prediction type that it supports.
SCHEDULERS: dict[str, str] = {
    "Flow": "flow",
    "Euler": "v_prediction",
    "Euler A": "v_prediction",
    "DPM++": "v_prediction",
    "PNDM": "v_prediction",
    "DDIM": "v_prediction",
}

DEFAULT_SCHEDULER = {Version.V5: "DDIM", Version.V5_1: "Flow"}

#: `scheduler_config.json` of the published checkpoints, for a denoiser without one.
PUBLISHED_CONFIG: dict[Version, dict[str, Any]] = {
    Version.V5: {
        "_class_name": "DDIMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "set_alpha_to_one": True,
        "steps_offset": 1,
        "timestep_spacing": "trailing",
    },
    Version.V5_1: {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "base_image_seq_len": 256,
        "base_shift": 0.5,
        "max_image_seq_len": 4096,
        "max_shift": 1.15,
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": True,
    },
}

#: The original calls the flow scheduler's dynamic shift with mu = 1: a shift of e, whatever the
#: config's `shift`.
FLOW_SHIFT = math.e

# PNDM starts with three Runge-Kutta steps, each between two timesteps.
_LEAST_STEPS = {"PNDM": 4}

_FLOW_CLASS = "FlowMatchEulerDiscreteScheduler"


@dataclass(frozen=True)
class Schedule:
    """A solver and its timesteps for one run. Solvers have state, so each run needs its own.

    `timesteps` are those that are run: all, or only the last part if `strength` < 1.
    """

    solver: Solver
    timesteps: Tensor
    strength: float

    @property
    def prediction(self) -> Prediction:
        """What the denoiser predicts."""
        return self.solver.prediction

    def start(self, noise: Tensor, known_latents: Tensor | None) -> Tensor:
        """The latents that the loop starts from.

        Args:
            noise: Unit Gaussian noise.
            known_latents: Encoded video, noised to the first timestep. Required if strength < 1,
                else unused.
        """
        if self.strength == 1.0:
            return self.solver.start(noise)
        assert known_latents is not None
        return self.solver.noised(known_latents, noise)

    def noised(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Clean latents at the noise level of a timestep, as the denoiser sees them."""
        return self.prediction.levels(timestep).noised(clean, noise)

    def clean(self, latents: Tensor, velocity: Tensor, timestep: Tensor) -> Tensor:
        """The clean latents implied by the predicted `velocity`."""
        return self.prediction.clean(latents, velocity, self.prediction.levels(timestep))

    def velocity(self, latents: Tensor, clean: Tensor, timestep: Tensor) -> Tensor:
        """The velocity that implies these clean latents; the inverse of `clean`."""
        return self.prediction.velocity(latents, clean, self.prediction.levels(timestep))


def check_scheduler(name: str, version: Version, config: Mapping[str, Any]) -> None:
    """Raise `SchedulerError` unless the scheduler can sample this model.

    Args:
        name: One of `SCHEDULERS`.
        version: The model's version, which determines its prediction type.
        config: The checkpoint's `scheduler_config.json`.
    """
    if name not in SCHEDULERS:
        raise SchedulerError(
            f"There is no scheduler {name!r}. Choose from {', '.join(SCHEDULERS)}."
        )
    wanted = version.prediction_type
    fitting = ", ".join(key for key, kind in SCHEDULERS.items() if kind == wanted)
    if SCHEDULERS[name] != wanted:
        raise SchedulerError(
            f"{name} is for {SCHEDULERS[name]} models; EasyAnimate {version.value} predicts "
            f"{wanted}, so the result would be noise. Use {fitting}."
        )
    stated = config.get("_class_name")
    config_is_flow = stated == _FLOW_CLASS if stated else "beta_start" not in config
    prediction = "flow" if config_is_flow else config.get("prediction_type", "epsilon")
    if prediction != wanted:
        raise SchedulerError(
            f"The checkpoint's scheduler_config.json is for {stated or prediction}, but "
            f"EasyAnimate {version.value} predicts {wanted}: the config belongs to another model. "
            "Download scheduler/scheduler_config.json again."
        )
    check_config(config)


def make_schedule(
    name: str,
    config: Mapping[str, Any],
    *,
    steps: int,
    strength: float = 1.0,
    flow_shift: float = FLOW_SHIFT,
    device: torch.device | str = "cpu",
) -> Schedule:
    """The named scheduler with its timesteps set.

    Args:
        name: One of `SCHEDULERS`.
        config: The checkpoint's `scheduler_config.json`.
        steps: Number of inference steps, at least 1.
        strength: Share of the schedule that is run, 0 < strength <= 1.
        flow_shift: How far Flow shifts its timesteps towards noise; 1 leaves them evenly spaced.
        device: Device of the latents.

    Raises:
        SchedulerError: steps or strength are out of range, or together leave too few steps; or the
            config has unsupported settings.
    """
    check_steps(steps, strength, name)
    check_config(config)
    solver = SOLVERS[name](Setup(config, steps, flow_shift, device))
    timesteps = solver.begin(steps - int(steps * strength))
    return Schedule(solver, timesteps, strength)


def check_steps(steps: int, strength: float, name: str | None = None) -> None:
    """Raise `SchedulerError` unless `steps` at `strength` leave enough steps to run.

    At least one is needed; some schedulers need more. `name` is None if the scheduler is not known
    yet.
    """
    if not 1 <= steps <= TRAINED_STEPS:
        raise SchedulerError(
            f"steps is {steps}; it must be between 1 and {TRAINED_STEPS}, the number of timesteps "
            "that the models were trained with (25 to 50 is usual)."
        )
    least = _LEAST_STEPS.get(name or "", 1)
    if steps < least:
        raise SchedulerError(f"{name} needs at least {counted(least, 'step')}, not {steps}.")
    if not 0 < strength <= 1:
        raise SchedulerError(f"strength is {strength}; it must be above 0 and at most 1.")
    walked = int(steps * strength)
    if walked < least:
        enough = (n for n in range(steps, TRAINED_STEPS + 1) if int(n * strength) >= least)
        needed = next(enough, None)
        more_steps = f"at least {counted(needed, 'step')} or " if needed else ""
        left = counted(walked, "step") if walked else "no step"
        rule = f", and {name} needs {least}" if least > 1 else ""
        raise SchedulerError(
            f"strength {strength} of {counted(steps, 'step')} leaves {left}{rule}. Use "
            f"{more_steps}a strength of at least {math.ceil(1000 * least / steps) / 1000}."
        )
