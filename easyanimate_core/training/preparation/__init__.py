"""Turns raw videos into a dataset: scenes, filters, near-duplicates, captions, manifest."""

from .caption_model import PROMPT, Captioning
from .captions import CaptionSummary, caption_files, read_captions
from .cuts import THRESHOLDS, Detection
from .duplicates import THRESHOLD, deduplicate
from .filters import Measuring, filter_files
from .manifest import ManifestSummary, write_manifest
from .measures import MEASURES, Limit
from .report import write_report
from .results import Decision, Decisions, Duplicate, Duplicates
from .scenes import SceneSummary, Splitting, split_scenes

__all__ = [
    "MEASURES",
    "PROMPT",
    "THRESHOLD",
    "THRESHOLDS",
    "CaptionSummary",
    "Captioning",
    "Decision",
    "Decisions",
    "Detection",
    "Duplicate",
    "Duplicates",
    "Limit",
    "ManifestSummary",
    "Measuring",
    "SceneSummary",
    "Splitting",
    "caption_files",
    "deduplicate",
    "filter_files",
    "read_captions",
    "split_scenes",
    "write_manifest",
    "write_report",
]
