"""The metrics in reports: their titles, and whether higher or lower is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A metric. `better` is 1 if higher is better, -1 if lower is, 0 if neither."""

    name: str
    title: str
    better: int


_METRICS = (
    Metric("psnr_db", "PSNR, dB", 1),
    Metric("ssim", "SSIM", 1),
    Metric("warp_error", "warping error", -1),
    Metric("flicker_percent", "flicker, % of brightness", -1),
    Metric("motion_pixels", "motion, pixels per frame", 0),
    Metric("motion_percent_per_second", "motion, % of width per second", 0),
    Metric("clip_score", "CLIP score", 1),
)

# Suffixes of the measures of `evaluate-meaning`; all others are checks, where 1 means passed.
_ENDINGS = (
    ("_psnr_db", 1),
    ("_psnr_of_reconstruction_db", 1),
    ("_psnr_of_wanted_db", 1),
    ("_below_reconstruction_db", -1),
    ("_difference", -1),
    ("_percent", -1),
    ("_of_asked_motion", 0),
)


def metric(name: str) -> Metric:
    """The metric with this name, of `evaluate` or `evaluate-meaning`."""
    for known in _METRICS:
        if known.name == name:
            return known
    title = name.replace("_", " ")
    better = next((better for ending, better in _ENDINGS if name.endswith(ending)), 1)
    return Metric(name, title, better)
