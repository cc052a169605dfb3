"""Schedulers, guidance and the denoising loop."""

from .guidance import Denoiser, Guidance, guided_denoiser
from .loop import Sampler, denoise, draw_noise
from .schedulers import (
    DEFAULT_SCHEDULER,
    SCHEDULERS,
    Schedule,
    check_scheduler,
    check_steps,
    make_schedule,
)

__all__ = [
    "DEFAULT_SCHEDULER",
    "SCHEDULERS",
    "Denoiser",
    "Guidance",
    "Sampler",
    "Schedule",
    "check_scheduler",
    "check_steps",
    "denoise",
    "draw_noise",
    "guided_denoiser",
    "make_schedule",
]
