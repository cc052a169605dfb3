"""The measures of a clip or an image, and the limits within which it is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ...errors import InputError


class Source(str, Enum):
    """The source of a measure: pixels, an OCR network, or CLIP with what it needs."""

    PIXELS = "pixels"
    OCR = "ocr"
    CLIP = "clip"
    AESTHETIC_HEAD = "aesthetic head"
    CAPTION = "caption"


@dataclass(frozen=True)
class Measure:
    """`low` and `high` are the default limits; None means no limit on that side."""

    name: str
    meaning: str
    low: float | None = None
    high: float | None = None
    source: Source = Source.PIXELS


_MEASURES = (
    Measure("side", "shorter side in pixels"),
    Measure("seconds", "length in seconds"),
    Measure("fps", "frames per second"),
    # 4 pixels per second at 720: the original's limit is 2 pixels in half a second.
    Measure("motion", "mean optical flow per second, relative to the shorter side", 0.005, 1.5),
    Measure("sharpness", "variance of the Laplacian in grey, shorter side at most 480", 15.0),
    Measure("dark", "share of the frames that are nearly black", high=0.1),
    Measure("bright", "share of the frames that are nearly white", high=0.1),
    Measure("bars", "share of the image covered by black bars", high=0.02),
    Measure("text", "share of the image covered by text", high=0.02, source=Source.OCR),
    Measure("consistency", "lowest CLIP similarity of consecutive frames", 0.8, source=Source.CLIP),
    Measure("aesthetics", "LAION's aesthetic score", 4.0, source=Source.AESTHETIC_HEAD),
    Measure("similarity", "CLIP similarity of frames and caption", 0.2, source=Source.CAPTION),
)  # fmt: skip

#: The measures by name, in the order in which files are judged.
MEASURES = {measure.name: measure for measure in _MEASURES}


@dataclass(frozen=True)
class Limit:
    """`low` to `high`, both inclusive; None means no limit."""

    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        low = "" if self.low is None else f"{self.low:g}"
        return f"{low}..{'' if self.high is None else f'{self.high:g}'}"


@dataclass(frozen=True)
class Reason:
    """Why a file is dropped: the measure (or "unreadable") and an explanation."""

    measure: str
    said: str


def limits_with(changes: Mapping[str, Limit]) -> dict[str, Limit]:
    """The default limits with some of them changed.

    Raises:
        InputError: A name is unknown, or a limit excludes everything.
    """
    for name, limit in changes.items():
        if name not in MEASURES:
            raise InputError(f"The measure {name!r} is unknown. Available: {', '.join(MEASURES)}.")
        values = [value for value in (limit.low, limit.high) if value is not None]
        if not all(math.isfinite(value) for value in values) or values != sorted(values):
            raise InputError(
                f"The limit {limit} of {name} keeps nothing; write LOW..HIGH with LOW at most HIGH."
            )
    return {n: changes.get(n, Limit(m.low, m.high)) for n, m in MEASURES.items()}


def judge(values: Mapping[str, float], limits: Mapping[str, Limit]) -> tuple[Reason, ...]:
    """Why a file with these values is dropped; empty if it is kept.

    Measures without a value are skipped: images have no motion.
    """
    reasons = []
    for name, limit in limits.items():
        value = values.get(name)
        if value is None:
            continue
        if limit.low is not None and value < limit.low:
            reasons.append(Reason(name, f"{name} {value:.4g} is below {limit.low:g}"))
        if limit.high is not None and value > limit.high:
            reasons.append(Reason(name, f"{name} {value:.4g} is above {limit.high:g}"))
    return tuple(reasons)
