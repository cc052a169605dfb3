"""Classifies the shape and orientation of a mask by comparison with rendered shapes.

A mask is normalized in area and position, and compared with each shape at every angle, sharp and
soft, by intersection over union.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..scenes import SHAPES, Body, Ground, Scene, render

Array = np.ndarray[Any, Any]

_SIDE = 32
_REACH = 0.95  # half of the compared square, in square roots of the area
_TEMPLATE = 192  # side of the picture that templates are taken from
_STEP = math.radians(5)

# Gaussians of the templates, in pixels of the compared square: generated pictures are soft.
_SOFTNESS = (0.0, 1.5, 3.0)

#: Rotational symmetry of each shape in radians; a circle's rotation cannot be detected.
SYMMETRY = {
    "circle": 0.0,
    "square": math.pi / 2,
    "triangle": 2 * math.pi / 3,
    "cross": math.pi / 2,
}


@dataclass(frozen=True)
class Likeness:
    """Best overlap [S] of each shape in the order of `SHAPES`, 0 to 1.

    `angles` [S] are the best angles in radians clockwise, from 0 up to the shape's symmetry.
    """

    overlaps: Array
    angles: Array


def likeness(cover_HW: Array) -> Likeness:
    """Compare a mask (0 to 1, not empty) with every shape."""
    square = normalised(cover_HW).ravel()
    overlaps, angles = (np.zeros(len(SHAPES)) for _ in range(2))
    for index, shape in enumerate(SHAPES):
        bank, turns = _templates(shape)
        fits = np.minimum(bank, square).sum(-1) / np.maximum(bank, square).sum(-1)  # [K, turns]
        best = int(fits.max(0).argmax())
        overlaps[index], angles[index] = fits[:, best].max(), _refined(fits.max(0), turns, best)
    return Likeness(overlaps, angles)


def normalised(cover_HW: Array) -> Array:
    """The mask cropped to a square around its centre and scaled to a fixed area: [32, 32]."""
    import cv2

    area, (x, y) = moments(cover_HW)
    step = 2 * _REACH * math.sqrt(area) / _SIDE
    first = ((1 - _SIDE) / 2) * step
    matrix = np.array([[step, 0, x + first], [0, step, y + first]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    source: Array = cover_HW.astype(np.float32)
    if step > 1:
        source = cv2.GaussianBlur(source, (0, 0), 0.4 * step)
    return np.asarray(cv2.warpAffine(source, matrix, (_SIDE, _SIDE), flags=how))


def moments(cover_HW: Array) -> tuple[float, tuple[float, float]]:
    """Area in pixels and centroid (x, y), relative to the centre of the first pixel."""
    area = float(cover_HW.sum())
    height, width = cover_HW.shape
    x = float((cover_HW.sum(0) * np.arange(width)).sum()) / area
    y = float((cover_HW.sum(1) * np.arange(height)).sum()) / area
    return area, (x, y)


@cache
def unit_area(shape: str) -> float:
    """Area of a shape of radius 1."""
    picture = _drawn(shape, 0.0, 1)[0]
    radius = 0.19 * _TEMPLATE
    return float(picture.sum()) / radius**2


@cache
def _templates(shape: str) -> tuple[Array, Array]:
    """Templates of a shape at every softness and angle, [K, turns, 32 * 32], and the angles."""
    import cv2

    symmetry = SYMMETRY[shape]
    count = max(1, round(symmetry / _STEP))
    turns = np.arange(count) * symmetry / count
    drawn = [normalised(picture) for picture in _drawn(shape, symmetry, count)]
    bank = [
        [picture if sigma == 0 else cv2.GaussianBlur(picture, (0, 0), sigma) for picture in drawn]
        for sigma in _SOFTNESS
    ]
    return np.array(bank).reshape(len(_SOFTNESS), count, -1), turns


def _drawn(shape: str, symmetry: float, count: int) -> Array:
    """The rendered shape at `count` angles: [count, H, W] in 0 to 1."""
    turn = symmetry * (count - 1) / count
    body = Body(shape, "white", "large", (0.5, 0.5), (0.5, 0.5), turn=turn)
    scene = Scene(
        seed=0, index=0, height=_TEMPLATE, width=_TEMPLATE, frames=count, kind="change",
        ground=Ground("plain", "grey"), bodies=(body,), motion="turn",
    )  # fmt: skip
    return np.asarray(np.clip(0.5 - render(scene).distances[0], 0, 1))


def _refined(fits: Array, turns: Array, best: int) -> float:
    """Refine the best angle between the steps, by a parabola through three of them."""
    if len(turns) < 3:
        return float(turns[best])
    left, top, right = (float(fits[(best + i) % len(fits)]) for i in (-1, 0, 1))
    bend = left - 2 * top + right
    offset = 0.0 if bend >= 0 else 0.5 * (left - right) / bend
    step = float(turns[1] - turns[0])
    return float(turns[best]) + float(np.clip(offset, -0.5, 0.5)) * step
