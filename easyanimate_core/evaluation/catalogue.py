"""What the numbers of reports are called, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number of a report. `better` is 1 where more is better, -1 where less is, 0 for neither."""

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

# Endings of the measures of meaning; its other measures are checks, where 1 is as asked.
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
    """The metric of a name: of `evaluate`, or a check or measure of `evaluate-meaning`."""
    for known in _METRICS:
        if known.name == name:
            return known
    title = name.replace("_", " ")
    better = next((better for ending, better in _ENDINGS if name.endswith(ending)), 1)
    return Metric(name, title, better)
