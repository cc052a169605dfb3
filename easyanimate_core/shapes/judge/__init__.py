"""Detects what a clip of shapes shows, and judges whether it is what was requested."""

from .meaning import TASKS, Labels, Sample, Verdict, judge
from .meaning_overview import Judged, check_overview, overview, write_overview
from .meaning_report import MeaningReport, TaskReport, check_meaning, judge_all, write_meaning
from .meaning_run import (
    HELD_OUT_SEED,
    Ask,
    Sampling,
    ask,
    asks_for,
    check_loras,
    encode_asks,
    evaluations_per_clip,
    make_samples,
    rendered_samples,
    tasks_of,
)
from .tracking import Observation, ObservedBody, observe

__all__ = [
    "HELD_OUT_SEED",
    "TASKS",
    "Ask",
    "Judged",
    "Labels",
    "MeaningReport",
    "Observation",
    "ObservedBody",
    "Sample",
    "Sampling",
    "TaskReport",
    "Verdict",
    "ask",
    "asks_for",
    "check_loras",
    "check_meaning",
    "check_overview",
    "encode_asks",
    "evaluations_per_clip",
    "judge",
    "judge_all",
    "make_samples",
    "observe",
    "overview",
    "rendered_samples",
    "tasks_of",
    "write_meaning",
    "write_overview",
]
