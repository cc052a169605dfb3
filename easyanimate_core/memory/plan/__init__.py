"""Planning: how much memory a run will take and how to make it fit, before anything is loaded."""

from .choose import Limits, Plan, choose
from .estimate import WRITING_BYTES, Estimate, Job, Stage, estimate
from .facts import ModelFacts, facts_of, published_facts
from .report import command_options, report
from .ways import Way

__all__ = [
    "WRITING_BYTES",
    "Estimate",
    "Job",
    "Limits",
    "ModelFacts",
    "Plan",
    "Stage",
    "Way",
    "choose",
    "command_options",
    "estimate",
    "facts_of",
    "published_facts",
    "report",
]
