"""Detects what a clip of shapes shows, and judges whether it is what was requested."""

from .meaning import TASKS, Labels, Sample, Verdict, judge
from .meaning_report import MeaningReport, TaskReport, check_meaning, judge_all, write_meaning
from .meaning_run import (
    HELD_OUT_SEED,
    Ask,
    ask,
    asks_for,
    make_samples,
    rendered_samples,
    tasks_of,
)
from .tracking import Observation, ObservedBody, observe

__all__ = [
    "HELD_OUT_SEED",
    "TASKS",
    "Ask",
    "Labels",
    "MeaningReport",
    "Observation",
    "ObservedBody",
    "Sample",
    "TaskReport",
    "Verdict",
    "ask",
    "asks_for",
    "check_meaning",
    "judge",
    "judge_all",
    "make_samples",
    "observe",
    "rendered_samples",
    "tasks_of",
    "write_meaning",
]
