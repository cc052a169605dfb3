"""Schedulers, guidance and the denoising loop."""

from .guidance import Denoiser, Guidance, guided_denoiser, sequential_denoiser
from .known import keeping_known
from .loop import SamplingRun, denoise, draw_noise
from .prediction import Prediction, prediction_of
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
    "Prediction",
    "SamplingRun",
    "Schedule",
    "check_scheduler",
    "check_steps",
    "denoise",
    "draw_noise",
    "guided_denoiser",
    "keeping_known",
    "make_schedule",
    "prediction_of",
    "sequential_denoiser",
]
