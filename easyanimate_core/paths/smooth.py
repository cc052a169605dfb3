"""Interpolation through points at given times: smooth and linear."""

from __future__ import annotations

import torch
from torch import Tensor


def through_points(times: Tensor, points_ND: Tensor, at: Tensor) -> Tensor:
    """A Catmull-Rom curve through `points_ND` at `times` [N], sampled at `at` [M]: [M, D] float64.

    `times` increase. The curve passes through every point at its time; two points give a straight
    line. Before the first and after the last point it is constant.
    """
    points_ND = points_ND.to(torch.float64)
    if len(times) == 1:
        return points_ND.expand(len(at), -1).clone()
    at = at.clamp(times[0], times[-1])
    part, share = locate(times, at)
    span = (times[part + 1] - times[part])[:, None]
    slopes = _slopes(times, points_ND)
    start, end = points_ND[part], points_ND[part + 1]
    s = share[:, None]
    return (
        (1 + 2 * s) * (1 - s) ** 2 * start
        + s * (1 - s) ** 2 * span * slopes[part]
        + s**2 * (3 - 2 * s) * end
        - s**2 * (1 - s) * span * slopes[part + 1]
    )


def along_lines(times: Tensor, points_ND: Tensor, at: Tensor) -> Tensor:
    """The same with straight lines from point to point."""
    points_ND = points_ND.to(torch.float64)
    if len(times) == 1:
        return points_ND.expand(len(at), -1).clone()
    part, share = locate(times, at.clamp(times[0], times[-1]))
    return torch.lerp(points_ND[part], points_ND[part + 1], share[:, None])


def locate(times: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """The interval of `times` that contains each of `at`, and its relative position there."""
    part = torch.searchsorted(times, at.contiguous(), right=True) - 1
    part = part.clamp(0, len(times) - 2)
    return part, (at - times[part]) / (times[part + 1] - times[part])


def _slopes(times: Tensor, points_ND: Tensor) -> Tensor:
    """Slope at every point: between its neighbours; at the ends, towards the only neighbour."""
    before = torch.arange(len(times)).sub(1).clamp(min=0)
    after = torch.arange(len(times)).add(1).clamp(max=len(times) - 1)
    return (points_ND[after] - points_ND[before]) / (times[after] - times[before])[:, None]
