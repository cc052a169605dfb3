"""Global motion: shift and scale from frame to frame, by direct alignment.

Every pair of adjacent frames is aligned by Gauss-Newton on the brightness (Lucas and Kanade 1981),
with a shift and a scale about the centre. Untextured areas carry no information, and stripes none
along their direction: there the smallest motion that explains the frames is used.

Shape letters: F frames, H and W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...models.geometry import TEMPORAL_FACTOR

Array = np.ndarray[Any, Any]

#: Gaussian sigmas in pixels for aligning a pair, coarse to fine.
_SCALES = (2.5, 1.2)
_STEPS = 8
_RIDGE = 1e-3

# Mean squared gradient of the brightness (0 to 1, per pixel) below which a ground counts as plain.
_LEAST_TEXTURE = 1.2e-5

# Minimum number of pixels for a reliable result.
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class PlaneMotion:
    """Global motion of every frame relative to the first.

    `shifts_F2` (x, y) is the displacement of the centre in pixels, `scales_F` the magnification.
    `textured` tells whether there was enough texture to measure it.
    """

    shifts_F2: Array
    scales_F: Array
    textured: bool

    def evenness(self) -> Array:
        """Evenness [3] of the steps in x, y and log scale: their means in standard errors.

        A step spans four frames, because a VAE with four frames per latent moves in jerks within
        it. A camera's steps are nearly equal (10 or more, even with blur and noise), those of a
        wobbling ground are not (5 or less, if it moves at all).
        """
        paths = np.column_stack([self.shifts_F2, np.log(self.scales_F)])
        steps = np.diff(paths[::TEMPORAL_FACTOR], axis=0)
        if len(steps) < 2:
            return np.full(3, np.inf)
        error = steps.std(axis=0, ddof=1) / math.sqrt(len(steps))
        return np.asarray(np.abs(steps.mean(axis=0)) / (error + 1e-9))


def plane_motion(brightness_FHW: Array, used_FHW: Array) -> PlaneMotion:
    """Align each frame with the next on pixels in both `used_FHW`; brightness is 0 to 1."""
    frames = len(brightness_FHW)
    shift, scale = np.zeros(2), 1.0
    shifts, scales = [shift], [scale]
    textures, step = [], np.zeros(3)
    for index in range(frames - 1):
        pair, used = brightness_FHW[index : index + 2], used_FHW[index : index + 2]
        texture = 0.0
        if used.all(0).mean() >= _LEAST_SHARE:
            step, texture = _aligned(pair, used, step)
        textures.append(texture)
        growth = math.exp(float(step[2]))
        shift, scale = shift * growth + step[:2], scale * growth
        shifts.append(shift)
        scales.append(scale)
    textured = bool(textures) and float(np.median(textures)) > _LEAST_TEXTURE
    return PlaneMotion(np.array(shifts), np.array(scales), textured)


def _aligned(pair: Array, used: Array, start: Array) -> tuple[Array, float]:
    """Shift x, y and log scale from the first to the second frame, and the amount of texture."""
    step, texture = np.zeros(3), 0.0
    if np.abs(start).max() < 6:
        step = start.copy()
    height, width = pair[0].shape
    x, y = np.arange(width) - (width - 1) / 2, np.arange(height)[:, None] - (height - 1) / 2
    seen = used.all(0)
    for sigma in _SCALES:
        smooth = [_smoothed(*part, sigma) for part in zip(pair, used, strict=True)]
        for _ in range(_STEPS):
            back, inside = _moved(smooth[1], step)
            slope_y, slope_x = np.gradient((back + smooth[0]) / 2)
            slopes = np.stack([slope_x, slope_y, slope_x * x + slope_y * y], axis=-1)
            rows = slopes[seen & inside]
            wrong = (smooth[0] - back)[seen & inside]
            normal = rows.T @ rows
            # The gradient of the scale grows with the image size, and so must its regularization.
            ridge = _RIDGE * np.trace(normal[:2, :2]) * np.array([1, 1, width * height / 12])
            change = np.linalg.solve(normal + np.diag(ridge + 1e-9), rows.T @ wrong)
            step = step + change
            texture = float(np.trace(normal[:2, :2])) / max(len(rows), 1)
            if np.abs(change[:2]).max() < 1e-3:
                break
    limit = 0.25 * min(height, width)
    return np.clip(step, (-limit, -limit, -0.5), (limit, limit, 0.5)), texture


def _smoothed(picture: Array, used: Array, sigma: float) -> Array:
    """Smooth within `used`, ignoring all other pixels."""
    import cv2

    weight = used.astype(np.float32)
    total = cv2.GaussianBlur(picture.astype(np.float32) * weight, (0, 0), sigma)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3))


def _moved(picture: Array, step: Array) -> tuple[Array, Array]:
    """Warp `picture` back by a motion; also returns where it has pixels."""
    import cv2

    height, width = picture.shape
    growth = math.exp(float(np.clip(step[2], -0.5, 0.5)))
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre * (1 - growth) + step[:2]
    matrix = np.array([[growth, 0, offset[0]], [0, growth, offset[1]]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    back = cv2.warpAffine(
        picture, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE
    )
    x = np.arange(width) * growth + offset[0]
    y = (np.arange(height) * growth + offset[1])[:, None]
    inside = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)
    return np.asarray(back), np.asarray(inside)
