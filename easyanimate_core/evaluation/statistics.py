"""Proportions and means with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """`right` of `total`, with the Wilson score interval `low` to `high` at 95 %."""

    right: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, answers: Iterable[bool]) -> Share:
        """Count the answers; `InputError` if there are none."""
        from scipy.stats import binomtest

        listed = [bool(answer) for answer in answers]
        if not listed:
            raise InputError("A share needs at least one answer; there are none.")
        interval = binomtest(sum(listed), len(listed)).proportion_ci(_CONFIDENCE, method="wilson")
        return cls(sum(listed), len(listed), float(interval.low), float(interval.high))

    @property
    def value(self) -> float:
        """The proportion, 0 to 1."""
        return self.right / self.total

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


@dataclass(frozen=True)
class Spread:
    """Summary statistics. `deviation` is the sample standard deviation, 0 for one value."""

    count: int
    mean: float
    deviation: float
    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize the values; `InputError` if there are none."""
        if not values:
            raise InputError("A mean needs at least one value; there are none.")
        numbers = np.asarray(values, dtype=np.float64)
        return cls(
            count=len(numbers),
            mean=float(numbers.mean()),
            deviation=float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0,
            least=float(numbers.min()),
            median=float(np.median(numbers)),
            most=float(numbers.max()),
        )

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.deviation / self.count**0.5

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.deviation:.2g}"
