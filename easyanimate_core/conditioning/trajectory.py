"""Tracks of points drawn as heat-map frames: the trajectory control video.

Facts (the bump's shape, its size and how tracks merge) are those of aigc-apps/EasyAnimate,
comfyui/comfyui_nodes.py, `gen_gaussian_heatmap` and `CreateTrajectoryBasedOnKJNodes`.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

_BUMP_SIZE = 200  # side of the drawn Gaussian, in pixels
_BUMP_SIGMA = 40.0
_RADIUS_AT_720P = 50
_LEAST_EXTENT = 3  # a bump clipped to this many pixels or fewer is not drawn


@dataclass(frozen=True)
class Track:
    """One point per frame, (x, y) in pixels from the top left; it may leave the picture."""

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError("A track has no points; at least 1 is needed.")
        for index, point in enumerate(self.points):
            if not all(math.isfinite(value) for value in point):
                raise InputError(f"Point {index} of a track is {point}; it must be finite.")


def tracks_from_json(text: str | Sequence[str]) -> tuple[Track, ...]:
    """Tracks from a list of {"x": .., "y": ..}, or from a list of such lists.

    Takes what KJNodes' spline editor gives: single quotes, and a list of texts for several tracks.
    """
    if not isinstance(text, str):
        if not text:
            raise InputError("There are no tracks; at least 1 is needed.")
        return tuple(track for part in text for track in tracks_from_json(part))
    value = _parse(text)
    if not isinstance(value, list) or not value:
        raise InputError(f"The tracks are {_short(value)}; a list of {_POINT} is needed.")
    tracks = value if all(isinstance(track, list) for track in value) else [value]
    return tuple(_track(track, index) for index, track in enumerate(tracks))


def resample(track: Track, frames: int) -> Track:
    """`track` brought to `frames` points by linear interpolation over its whole way."""
    if frames < 1:
        raise InputError(f"frames is {frames}; a track has at least 1 point.")
    last = len(track.points) - 1
    points = []
    for index in range(frames):
        position = index * last / max(frames - 1, 1)
        start = min(int(position), max(last - 1, 0))
        (x0, y0), (x1, y1) = track.points[start], track.points[min(start + 1, last)]
        share = position - start
        points.append((x0 + (x1 - x0) * share, y0 + (y1 - y0) * share))
    return Track(tuple(points))


def heatmap_frames(tracks: Sequence[Track], *, height: int, width: int) -> Tensor:
    """A Gaussian bump at every track's point, as [F, height, width, 3] float32 in [0, 1].

    Tracks are merged by the maximum; the three channels are equal. Points are rounded to whole
    pixels. A bump at the border is squeezed into what is inside, as the models saw in training.
    """
    if min(height, width) < 1:
        raise InputError(f"The size is {height} x {width}; both sides must be positive.")
    lengths = sorted({len(track.points) for track in tracks})
    if len(lengths) != 1:
        raise InputError(
            f"The tracks have {lengths} points; at least one track is needed, and all need as "
            "many points as there are frames. Use resample."
        )
    radius = int(_RADIUS_AT_720P * math.sqrt(height * width / (1280 * 720)))
    bump = _gaussian_bump()
    frames = torch.zeros(lengths[0], height, width, dtype=torch.float32)
    for track in tracks:
        for frame, point in zip(frames, track.points, strict=True):
            x, y = (round(value) for value in point)
            # The last row and column are never drawn: the original clips at the size minus one.
            top, bottom = max(y - radius, 0), min(y + radius, height - 1)
            left, right = max(x - radius, 0), min(x + radius, width - 1)
            if min(bottom - top, right - left) > _LEAST_EXTENT:
                region = frame[top:bottom, left:right]
                torch.maximum(region, _resized(bump, bottom - top, right - left), out=region)
    return frames[..., None].repeat(1, 1, 1, 3)


_POINT = '{"x": number, "y": number}'


def _parse(text: str) -> Any:
    """JSON, or else a Python literal (single quotes); neither runs code."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as json_error:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise InputError(
                f"The tracks are not valid JSON ({json_error}); a list of {_POINT} is needed."
            ) from json_error


def _track(points: Any, track_index: int) -> Track:
    values = []
    for index, point in enumerate(points):
        is_point = isinstance(point, dict) and set(point) == {"x", "y"}
        if not is_point or not all(type(value) in (int, float) for value in point.values()):
            raise InputError(
                f"Point {index} of track {track_index} is {_short(point)}; it must be {_POINT}."
            )
        values.append((float(point["x"]), float(point["y"])))
    return Track(tuple(values))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _gaussian_bump() -> Tensor:
    """[200, 200] in [0, 1] in steps of 1/255, zero outside a disc of radius 99."""
    offsets = torch.arange(_BUMP_SIZE, dtype=torch.float64) - _BUMP_SIZE / 2
    profile = torch.exp(-0.5 * (offsets / _BUMP_SIGMA) ** 2)
    bump = profile[:, None] * profile[None, :] * _disc()
    return (bump * 255).floor().div(255).to(torch.float32)


def _disc() -> Tensor:
    """The filled disc that a midpoint-circle rasteriser draws: its rim decides edge pixels."""
    centre, radius = _BUMP_SIZE // 2, _BUMP_SIZE // 2 - 1
    disc = torch.zeros(_BUMP_SIZE, _BUMP_SIZE, dtype=torch.float64)
    along, across, error = 0, radius, 0
    while across >= along:
        for half_height, half_width in ((along, across), (across, along)):
            for row in (centre - half_height, centre + half_height):
                disc[row, centre - half_width : centre + half_width + 1] = 1
        error += 2 * along + 1
        along += 1
        if error > 0:
            error -= 2 * across - 1
            across -= 1
    return disc


def _resized(bump: Tensor, height: int, width: int) -> Tensor:
    """Bilinear without antialiasing, which is the sampling of OpenCV's default resize."""
    return F.interpolate(bump[None, None], size=(height, width), mode="bilinear")[0, 0]
