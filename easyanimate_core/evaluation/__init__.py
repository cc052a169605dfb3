"""Quality of generated clips: metrics for any video, reports and comparisons."""

from .compare import (
    Comparison,
    check_comparison,
    compare_reports,
    comparison_lines,
    write_comparison,
)
from .distribution import frechet_distance, frechet_video_distance
from .metrics import psnr, ssim
from .statistics import Share, Spread
from .temporal import Motion, flicker, motion
from .text_match import ClipScorer
from .video_report import check_videos_report, summary_lines, write_videos
from .videos import VideoReport, VideoSet, evaluate_videos, find_video_set

__all__ = [
    "ClipScorer",
    "Comparison",
    "Motion",
    "Share",
    "Spread",
    "VideoReport",
    "VideoSet",
    "check_comparison",
    "check_videos_report",
    "compare_reports",
    "comparison_lines",
    "evaluate_videos",
    "find_video_set",
    "flicker",
    "frechet_distance",
    "frechet_video_distance",
    "motion",
    "psnr",
    "ssim",
    "summary_lines",
    "write_comparison",
    "write_videos",
]
