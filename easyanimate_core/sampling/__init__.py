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
from .step_cache import (
    Step,
    StepCache,
    check_share,
    evaluations,
    note_of,
    plan_steps,
    saving_denoiser,
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
    "Step",
    "StepCache",
    "check_scheduler",
    "check_share",
    "check_steps",
    "denoise",
    "draw_noise",
    "evaluations",
    "guided_denoiser",
    "keeping_known",
    "make_schedule",
    "note_of",
    "plan_steps",
    "prediction_of",
    "saving_denoiser",
    "sequential_denoiser",
]
