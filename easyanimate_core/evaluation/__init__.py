"""How good generated clips are: metrics of any video, and meaning on scenes of known content."""

from .compare import (
    Comparison,
    check_comparison,
    compare_reports,
    comparison_lines,
    write_comparison,
)
from .distribution import frechet_distance, frechet_video_distance
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
from .metrics import psnr, ssim
from .statistics import Share, Spread
from .temporal import Motion, flicker, motion
from .text_match import ClipScorer
from .tracking import Observation, ObservedBody, observe
from .video_report import check_videos_report, summary_lines, write_videos
from .videos import VideoPlan, VideoReport, evaluate_videos, plan_videos

__all__ = [
    "HELD_OUT_SEED",
    "TASKS",
    "Ask",
    "ClipScorer",
    "Comparison",
    "Labels",
    "MeaningReport",
    "Motion",
    "Observation",
    "ObservedBody",
    "Sample",
    "Share",
    "Spread",
    "TaskReport",
    "Verdict",
    "VideoPlan",
    "VideoReport",
    "ask",
    "asks_for",
    "check_comparison",
    "check_meaning",
    "check_videos_report",
    "compare_reports",
    "comparison_lines",
    "evaluate_videos",
    "flicker",
    "frechet_distance",
    "frechet_video_distance",
    "judge",
    "judge_all",
    "make_samples",
    "motion",
    "observe",
    "plan_videos",
    "psnr",
    "rendered_samples",
    "ssim",
    "summary_lines",
    "tasks_of",
    "write_comparison",
    "write_meaning",
    "write_videos",
]
