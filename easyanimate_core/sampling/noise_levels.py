"""The noise schedule of a `scheduler_config.json`: how much signal is left at each timestep.

Sources: Ho et al., arXiv 2006.11239; Lin et al., arXiv 2305.08891 (zero terminal SNR, spacings).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import SchedulerError

#: Number of timesteps that the published models were trained with.
TRAINED_STEPS = 1000

#: Replaces the zero of a zero terminal SNR in solvers that divide by the signal's share.
LEAST_SHARE = 2.0**-24

_SPACINGS = ("linspace", "leading", "trailing")

#: Settings that are not implemented here, with the only value that is accepted.
_ONLY: Mapping[str, Any] = {
    "num_train_timesteps": TRAINED_STEPS,
    "trained_betas": None,
    "thresholding": False,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "final_sigmas_type": "zero",
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "solver_order": 2,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "skip_prk_steps": False,
    "invert_sigmas": False,
    "shift_terminal": None,
    "stochastic_sampling": False,
    "time_shift_type": "exponential",
}


def check_config(config: Mapping[str, Any]) -> None:
    """Raise `SchedulerError` if a config requests what no scheduler here implements."""
    for name, known in _ONLY.items():
        value = config.get(name, known)
        if value != known and not (known is False and value is None):
            raise SchedulerError(
                f"scheduler_config.json sets {name} to {value!r}; only {known!r} is supported. Use "
                f"the published file, or set {name} to that."
            )


def alphas_cumprod(config: Mapping[str, Any], *, rescale: bool = True) -> Tensor:
    """The signal's share of the variance at every timestep, float32 [TRAINED_STEPS].

    With `rescale` False, a zero terminal SNR in the config is ignored.
    """
    first, last = (
        _number(config, name, default)
        for name, default in (("beta_start", 0.0001), ("beta_end", 0.02))
    )
    if not 0 < first <= last < 1:
        raise SchedulerError(
            f"scheduler_config.json sets beta_start to {first:g} and beta_end to {last:g}; both "
            "must be between 0 and 1, and beta_end must not be smaller. Use the published file."
        )
    kind = config.get("beta_schedule", "linear")
    if kind == "scaled_linear":
        betas = torch.linspace(first**0.5, last**0.5, TRAINED_STEPS, dtype=torch.float32) ** 2
    elif kind == "linear":
        betas = torch.linspace(first, last, TRAINED_STEPS, dtype=torch.float32)
    else:
        raise SchedulerError(
            f"scheduler_config.json sets beta_schedule to {kind!r}; it must be scaled_linear or "
            "linear."
        )
    shares = torch.cumprod(1.0 - betas, dim=0)
    if not (rescale and config.get("rescale_betas_zero_snr")):
        return shares
    roots = shares.sqrt()
    first_root, last_root = roots[0].clone(), roots[-1].clone()
    rescaled = ((roots - last_root) * (first_root / (first_root - last_root))) ** 2
    # Via the individual steps and back, as when the published models were trained.
    steps = torch.cat([rescaled[:1], rescaled[1:] / rescaled[:-1]])
    return torch.cumprod(1.0 - (1.0 - steps), dim=0)


def spaced_timesteps(
    config: Mapping[str, Any], steps: int, default: str, *, points: int | None = None
) -> np.ndarray[Any, Any]:
    """`steps` timesteps from noise to clean, float64, spaced according to the config.

    `points` is the number of evenly spaced timesteps, of which the lowest are dropped.
    """
    spacing = config.get("timestep_spacing", default)
    if spacing not in _SPACINGS:
        raise SchedulerError(
            f"scheduler_config.json sets timestep_spacing to {spacing!r}; it must be one of "
            f"{', '.join(_SPACINGS)}."
        )
    points = points or steps
    if spacing == "trailing":
        return np.arange(TRAINED_STEPS, 0, -TRAINED_STEPS / steps).round() - 1
    if spacing == "linspace":
        rising: np.ndarray[Any, Any] = np.linspace(0, TRAINED_STEPS - 1, points)
    else:
        offset = _number(config, "steps_offset", 0)
        rising = np.arange(points) * (TRAINED_STEPS // points) + offset
    return rising[::-1][:steps].astype(np.float64)


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < np.inf:
        raise SchedulerError(
            f"scheduler_config.json sets {name} to {value!r}; it must be a number, 0 or more."
        )
    return value
