"""Detects what a clip of the synthetic world shows, with classical computer vision.

Shape letters: F frames, H and W pixels. Positions are (x, y) in pixels, where pixel i covers
[i, i + 1); angles are in radians clockwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ...media import check_pixels
from ..scenes import SHAPES, SIZES
from ..scenes.scene import PANS
from .plane import PlaneMotion, plane_motion
from .segment import Patch, segment, to_lab
from .shapes import SYMMETRY, likeness, moments, unit_area

Array = np.ndarray[Any, Any]

#: Below these there is no motion: displacement (share of the side), growth (ratio), turn (radians).
STILL_WAY = 0.10
STILL_GROWTH = 1.25
STILL_TURN = math.radians(25)

#: A counterclockwise turn, which scenes do not have.
TURN_BACK = "turn back"

# Below these there is no camera move: displacement and growth of the whole image.
_STILL_SHIFT = 0.06
_STILL_ZOOM = 1.12

# A less even global motion does not count; see `PlaneMotion.evenness`.
_LEAST_EVEN = 6.0

# Minimum overlap with the likeliest shape: noise reaches 0.78 at most and typically 0.57, bodies in
# soft clips at least 0.8.
_LEAST_OVERLAP = 0.65

# Minimum coverage in pixels for a body to count as visible in a frame.
_LEAST_PIXELS = 12.0

# Frames that show less than this share of a body's maximum area are not used for its shape.
_WHOLE = 0.75


@dataclass(frozen=True)
class ObservedBody:
    """A body over the clip. Positions, areas and angles are NaN in frames where it is not visible.

    Args:
        colour: Name of the nearest colour; `lab` (3) is the actual colour.
        shape: Name of the likeliest shape, or "none"; `overlap` (0 to 1) is how well it fits.
        size: "small" or "large", in the first frame where it is visible.
        centres_F2: Its centre.
        areas_F: Its area in pixels.
        angles_F: Its orientation, unwrapped; always 0 for a circle.
        cover_FHW: Its pixel coverage, 0 to 1.
        confidence: 0 to 1: the share of frames where it is visible, times `overlap`.
    """

    colour: str
    lab: Array
    shape: str
    overlap: float
    size: str
    centres_F2: Array
    areas_F: Array
    angles_F: Array
    cover_FHW: Array
    confidence: float

    @property
    def way(self) -> tuple[float, float]:
        """Displacement (x, y) over the clip, from a linear fit over all frames."""
        seen = np.flatnonzero(np.isfinite(self.areas_F))
        if len(seen) < 2:
            return 0.0, 0.0
        span = len(self.areas_F) - 1
        lines = [np.polyfit(seen, self.centres_F2[seen, axis], 1)[0] * span for axis in (0, 1)]
        return float(lines[0]), float(lines[1])

    @property
    def growth(self) -> float:
        """Ratio of its final to its initial radius, from a fit of uniform growth."""
        seen = np.flatnonzero(np.isfinite(self.areas_F))
        if len(seen) < 2:
            return 1.0
        slope, start = np.polyfit(seen, np.sqrt(self.areas_F[seen]), 1)
        end = start + slope * (len(self.areas_F) - 1)
        return float(max(end, 0.1) / max(start, 0.1))

    @property
    def turn(self) -> float:
        """Clockwise rotation over the clip, from a linear fit."""
        seen = np.flatnonzero(np.isfinite(self.angles_F))
        if len(seen) < 2:
            return 0.0
        return float(np.polyfit(seen, self.angles_F[seen], 1)[0] * (len(self.angles_F) - 1))

    @property
    def motion(self) -> str:
        """Its motion in the terms of `Scene.motion`, or "turn back" for counterclockwise."""
        side = min(self.cover_FHW.shape[1:])
        x, y = self.way
        if max(abs(x), abs(y)) >= STILL_WAY * side:
            return _direction(x, y)
        if self.growth >= STILL_GROWTH:
            return "grow"
        if self.growth <= 1 / STILL_GROWTH:
            return "shrink"
        if abs(self.turn) >= STILL_TURN:
            return "turn" if self.turn > 0 else TURN_BACK
        return "still"


@dataclass(frozen=True)
class Observation:
    """What a clip shows.

    `bodies` are sorted by area, largest first. `tint` is the nearest ground colour, `ground_lab`
    (3) the actual one. `camera` is a move of `paths.camera`, "Static" if the ground does not move,
    or None if it has no texture to tell; `plane` is its motion.
    """

    bodies: tuple[ObservedBody, ...]
    tint: str
    ground_lab: Array
    camera: str | None
    plane: PlaneMotion

    @property
    def main(self) -> ObservedBody | None:
        """The body that the caption would begin with: the one that moves most, else the largest."""
        if not self.bodies:
            return None
        ways = [math.hypot(*body.way) for body in self.bodies]
        side = min(self.bodies[0].cover_FHW.shape[1:])
        moving = max(ways) >= STILL_WAY * side
        return self.bodies[int(np.argmax(ways)) if moving else 0]

    @property
    def motion(self) -> str:
        """The camera's move if any, else the main body's motion; "none" without a body."""
        if self.camera not in (None, "Static"):
            return self.camera
        return "none" if self.main is None else self.main.motion


def observe(frames_FHWC: Tensor) -> Observation:
    """Analyze a clip [F, H, W, 3] in [0, 1]; `InputError` if it is invalid."""
    check_pixels("The video", frames_FHWC)
    parts = segment(frames_FHWC)
    brightness_FHW = to_lab(frames_FHWC)[..., 0] / 100
    ground = plane_motion(brightness_FHW, parts.ground_FHW)
    plane, camera = ground, _camera(ground, frames_FHWC.shape[2], frames_FHWC.shape[1])
    if camera not in (None, "Static"):  # then bodies move with it; stripes alone would mislead
        plane = plane_motion(brightness_FHW, np.ones_like(parts.ground_FHW))
        camera = _camera(plane, frames_FHWC.shape[2], frames_FHWC.shape[1])
    bodies = tuple(filter(None, (_observed(patch) for patch in parts.patches)))
    return Observation(bodies, parts.tint, parts.ground_lab, camera, plane)


def _observed(patch: Patch) -> ObservedBody | None:
    """Measure a patch; None if it is not visible in any frame."""
    frames, height, width = patch.cover_FHW.shape
    areas_F = patch.cover_FHW.sum(axis=(1, 2)).astype(np.float64)
    areas_F[areas_F < _LEAST_PIXELS] = np.nan
    seen = np.flatnonzero(np.isfinite(areas_F))
    if not len(seen):
        return None
    centres_F2 = np.full((frames, 2), np.nan)
    for frame in seen:
        _, (x, y) = moments(patch.cover_FHW[frame])
        centres_F2[frame] = x + 0.5, y + 0.5
    likes = {int(frame): likeness(patch.cover_FHW[frame]) for frame in seen}
    whole = [frame for frame in likes if _is_whole(patch.cover_FHW, areas_F, frame)] or list(likes)
    overlaps_S = np.mean([likes[frame].overlaps for frame in whole], axis=0)
    best = int(overlaps_S.argmax())
    shape = SHAPES[best]
    angles_F = np.full(frames, np.nan)
    angles_F[whole] = [likes[frame].angles[best] for frame in whole]
    radius = math.sqrt(areas_F[seen[0]] / unit_area(shape))
    border = min(height, width) * math.sqrt(SIZES["small"] * SIZES["large"])
    return ObservedBody(
        colour=patch.colour,
        lab=patch.lab,
        shape=shape if overlaps_S[best] >= _LEAST_OVERLAP else "none",
        overlap=float(overlaps_S[best]),
        size="large" if radius > border else "small",
        centres_F2=centres_F2,
        areas_F=areas_F,
        angles_F=_unwrapped(angles_F, SYMMETRY[shape]),
        cover_FHW=patch.cover_FHW,
        confidence=len(seen) / frames * float(overlaps_S[best]),
    )


def _is_whole(cover_FHW: Array, areas_F: Array, frame: int) -> bool:
    """Frames without partial occlusion: as large as in adjacent ones, and away from the border."""
    edge = max(float(side.max()) for side in (
        cover_FHW[frame, 0], cover_FHW[frame, -1], cover_FHW[frame, :, 0], cover_FHW[frame, :, -1]
    ))  # fmt: skip
    near = areas_F[max(frame - 4, 0) : frame + 5]
    return edge < 0.5 and areas_F[frame] >= _WHOLE * float(np.nanmax(near))


def _unwrapped(angles_F: Array, symmetry: float) -> Array:
    """Unwrap angles: each is as close to the previous one as the symmetry allows."""
    if symmetry == 0:
        return np.where(np.isfinite(angles_F), 0.0, np.nan)
    smooth, before = angles_F.copy(), None
    for frame, angle in enumerate(angles_F):
        if not np.isfinite(angle):
            continue
        if before is not None:
            angle += symmetry * round((before - angle) / symmetry)  # noqa: PLW2901
        smooth[frame] = before = angle
    return smooth


def _direction(x: float, y: float) -> str:
    if abs(x) >= abs(y):
        return "right" if x > 0 else "left"
    return "down" if y > 0 else "up"


def _camera(plane: PlaneMotion, width: int, height: int) -> str | None:
    """The camera move that corresponds to the global motion."""
    if not plane.textured:
        return None
    shift_x, shift_y = plane.shifts_F2[-1]
    growth = float(plane.scales_F[-1])
    pan = max(abs(shift_x) / width, abs(shift_y) / height) / _STILL_SHIFT
    zoom = abs(math.log(growth)) / math.log(_STILL_ZOOM)
    even_x, even_y, even_scale = plane.evenness()
    even = even_scale if zoom > pan else even_x if abs(shift_x) >= abs(shift_y) else even_y
    if max(pan, zoom) < 1 or even < _LEAST_EVEN:
        return "Static"
    if zoom > pan:
        return "Zoom In" if growth > 1 else "Zoom Out"
    content = _direction(float(shift_x), float(shift_y))
    return next(move for move, way in PANS.items() if way == content)
