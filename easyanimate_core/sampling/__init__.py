"""Schedulers, guidance and the denoising loop."""

from .guidance import Denoiser, Guidance, guided_denoiser, sequential_denoiser
from .known import keeping_known
from .loop import Sampler, denoise, draw_noise
from .schedulers import (
    DEFAULT_SCHEDULER,
    FLOW_SHIFT,
    PUBLISHED_CONFIG,
    SCHEDULERS,
    Schedule,
    check_scheduler,
    check_steps,
    make_schedule,
)

__all__ = [
    "DEFAULT_SCHEDULER",
    "FLOW_SHIFT",
    "PUBLISHED_CONFIG",
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
    "keeping_known",
    "make_schedule",
    "sequential_denoiser",
]
