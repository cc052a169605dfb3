"""Point tracks, and the trajectory control video: tracks drawn as heat-map frames.

The bump's shape and size, and how tracks are merged, are those of aigc-apps/EasyAnimate,
comfyui/comfyui_nodes.py, `gen_gaussian_heatmap` and `CreateTrajectoryBasedOnKJNodes`.
"""

from __future__ import annotations

import json
import math
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, MediaError, counted
from ..files import json_value, read_text, short
from .smooth import along_lines, through_points

_BUMP_SIZE = 200  # side of the drawn Gaussian, in pixels
_BUMP_SIGMA = 40.0
_RADIUS_AT_720P = 50
_LARGEST_SIZE = 20.0
_LEAST_EXTENT = 3  # a bump clipped to this many pixels or fewer is not drawn


_POINT = '{"x": number, "y": number}'
_POINT_KEYS = {"x", "y", "t", "visible"}
_TRACK_KEYS = {"points", "spline", "size"}
_CONSTANTS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True)
class Track:
    """Points (x, y) that an object moves through, in pixels from the top left.

    They may be outside the image. `times` are when the points are reached, as fractions of the clip
    from 0 to 1: none, or one per point, where None is interpolated between its neighbours. From a
    point that is not `visible` (default: all are) to the next visible one, nothing is drawn. A
    `spline` is a Catmull-Rom curve; otherwise the segments are straight. `size` scales the drawn
    blob; 1 is the trained size, which depends on the size of the image.
    """

    points: tuple[tuple[float, float], ...]
    times: tuple[float | None, ...] = ()
    visible: tuple[bool, ...] = ()
    spline: bool = False
    size: float = 1.0

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError("A track has no points; at least 1 is needed.")
        for index, point in enumerate(self.points):
            if not all(math.isfinite(value) for value in point):
                raise InputError(f"Point {index} of a track is {point}; it must be finite.")
        for name, values in (("times", self.times), ("visible", self.visible)):
            if values and len(values) != len(self.points):
                raise InputError(
                    f"A track has {counted(len(self.points), 'point')} and {len(values)} {name}; "
                    "give one per point or none."
                )
        if not (math.isfinite(self.size) and 0 < self.size <= _LARGEST_SIZE):
            raise InputError(
                f"A track's size is {self.size}; it must be above 0 and at most {_LARGEST_SIZE:g}."
            )
        self.reached()

    def reached(self) -> tuple[float, ...]:
        """The time of every point, with missing ones interpolated."""
        last = len(self.points) - 1
        given = dict(enumerate(self.times))
        known = {index: time for index, time in given.items() if time is not None}
        known = {0: 0.0} | ({last: 1.0} if last else {}) | known
        filled = [known[0]]
        for start, end in pairwise(sorted(known)):
            step = (known[end] - known[start]) / (end - start)
            filled += [known[start] + step * (i - start) for i in range(start + 1, end)]
            filled.append(known[end])
        for index, time in enumerate(filled):
            if not 0 <= time <= 1 or (index and time <= filled[index - 1]):
                raise InputError(
                    f"Point {index} of a track is reached at t = {time:g}; times must be between 0 "
                    "and 1 and increase from point to point."
                )
        return tuple(filled)


def tracks_from_json(text: str | Sequence[str]) -> tuple[Track, ...]:
    """Tracks from JSON: a list of points for one track, or a list of tracks.

    A track is a list of points, or {"points": [...], "spline": false, "size": 1.0}. A point is
    {"x": .., "y": ..}, optionally with "t", the fraction of the clip at which it is reached, and
    "visible". The output of KJNodes' spline editor is accepted, too: single quotes, and a list of
    strings for several tracks.
    """
    if not isinstance(text, str):
        if not text:
            raise InputError("There are no tracks; at least 1 is needed.")
        return tuple(track for part in text for track in tracks_from_json(part))
    value = _parse(text)
    if not isinstance(value, list) or not value:
        raise InputError(f"The tracks are {short(value)}; a list of {_POINT} is needed.")
    is_list_of_tracks = all(
        isinstance(track, list) or (isinstance(track, dict) and "points" in track)
        for track in value
    )
    return tuple(
        _track(track, i) for i, track in enumerate(value if is_list_of_tracks else [value])
    )


def read_tracks(source: str | os.PathLike[str]) -> tuple[Track, ...]:
    """Tracks from JSON text, or from a JSON file."""
    text = os.fspath(source)
    if text.lstrip().startswith("["):
        return tracks_from_json(text)
    try:
        return tracks_from_json(read_text(text, error=MediaError))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def tracks_to_json(tracks: Sequence[Track]) -> str:
    """JSON text that `tracks_from_json` converts back to these tracks."""
    if not tracks:
        raise InputError("There are no tracks; at least 1 is needed.")
    return json.dumps([_written(track) for track in tracks])


def resample(track: Track, frames: int) -> Track:
    """`track` resampled to one point per frame, following its shape and times."""
    if frames < 1:
        raise InputError(f"frames is {frames}; a track has at least 1 point.")
    shares = [index / max(frames - 1, 1) for index in range(frames)]
    reached = track.reached()
    if track.spline or track.times:
        at = torch.tensor(shares, dtype=torch.float64)
        times = torch.tensor(reached, dtype=torch.float64)
        values = torch.tensor(track.points, dtype=torch.float64)
        curve = through_points if track.spline else along_lines
        points = [(x, y) for x, y in curve(times, values, at).tolist()]
    else:
        points = _evenly(track.points, frames)
    visible: tuple[bool, ...] = ()
    if track.visible:  # a point's visibility applies from the frame at its time
        passed = (bisect_right(reached, share + 1e-9) for share in shares)
        visible = tuple(track.visible[max(number - 1, 0)] for number in passed)
    return Track(tuple(points), visible=visible, size=track.size)


def _evenly(points: Sequence[tuple[float, float]], frames: int) -> list[tuple[float, float]]:
    last = len(points) - 1
    found = []
    for index in range(frames):
        position = index * last / max(frames - 1, 1)
        start = min(int(position), max(last - 1, 0))
        (x0, y0), (x1, y1) = points[start], points[min(start + 1, last)]
        share = position - start
        found.append((x0 + (x1 - x0) * share, y0 + (y1 - y0) * share))
    return found


def check_inside(number: int, track: Track, *, height: int, width: int) -> None:
    """Raise `InputError` if a track has no point inside the image: nothing would be drawn."""
    if not any(0 <= x < width and 0 <= y < height for x, y in track.points):
        first, last = track.points[0], track.points[-1]
        raise InputError(
            f"Track {number} is outside the {width} x {height} image: it goes from "
            f"({first[0]:g}, {first[1]:g}) to ({last[0]:g}, {last[1]:g}). Points are pixels of the "
            "result: move the track, or change the size."
        )


def heatmap_frames(tracks: Sequence[Track], *, height: int, width: int) -> Tensor:
    """Draw a Gaussian bump at every track's point, [F, height, width, 3] float32 in [0, 1].

    Tracks are merged by the maximum; the three channels are equal. Points are rounded to whole
    pixels. At the border, a bump is squeezed into the visible part, as in training.
    """
    if min(height, width) < 1:
        raise InputError(f"The size is {height} x {width}; both sides must be positive.")
    lengths = sorted({len(track.points) for track in tracks})
    if len(lengths) != 1:
        raise InputError(
            f"The tracks have {lengths} points; there must be at least one track, and all must "
            "have one point per frame. Use resample."
        )
    bump = _gaussian_bump()
    frames = torch.zeros(lengths[0], height, width, dtype=torch.float32)
    for track in tracks:
        radius = blob_radius(track, height, width)
        seen = track.visible or (True,) * lengths[0]
        for frame, point, is_visible in zip(frames, track.points, seen, strict=True):
            if not is_visible:
                continue
            x, y = (round(value) for value in point)
            # The last row and column are never drawn: the original clips at the size minus one.
            top, bottom = max(y - radius, 0), min(y + radius, height - 1)
            left, right = max(x - radius, 0), min(x + radius, width - 1)
            if min(bottom - top, right - left) > _LEAST_EXTENT:
                region = frame[top:bottom, left:right]
                torch.maximum(region, _resized(bump, bottom - top, right - left), out=region)
    return frames[..., None].repeat(1, 1, 1, 3)


def _written(track: Track) -> list[dict[str, Any]] | dict[str, Any]:
    points: list[dict[str, Any]] = [{"x": x, "y": y} for x, y in track.points]
    for index, time in enumerate(track.times):
        points[index] |= {} if time is None else {"t": time}
    for index, is_visible in enumerate(track.visible):
        points[index] |= {"visible": is_visible}
    if not track.spline and track.size == 1:
        return points
    return {"points": points, "spline": track.spline, "size": track.size}


def _parse(text: str) -> Any:
    """Parse JSON; single quotes and Python's True, False and None are accepted."""
    plain = text.replace("'", '"')
    for theirs, ours in _CONSTANTS.items():
        plain = re.sub(rf"\b{theirs}\b", ours, plain)
    return json_value(
        plain,
        object,
        "The text of the tracks",
        error=InputError,
        remedy=f"A list of {_POINT} is needed.",
        finite=False,  # checked later, for a message with the point's number
    )


def _track(value: list[Any] | dict[str, Any], index: int) -> Track:
    if isinstance(value, list):
        value = {"points": value}
    unknown = sorted(set(value) - _TRACK_KEYS, key=str)
    if unknown:
        raise InputError(
            f"Track {index} has the unknown key {unknown[0]!r}. A track has "
            f"{', '.join(sorted(_TRACK_KEYS))}."
        )
    points, spline, size = value["points"], value.get("spline", False), value.get("size", 1.0)
    if not isinstance(points, list):
        raise InputError(f"The points of track {index} are {short(points)}; they must be a list.")
    if type(spline) is not bool:
        raise InputError(
            f"The spline of track {index} is {short(spline)}; it must be true or false."
        )
    if not _is_number(size):
        raise InputError(f"The size of track {index} is {short(size)}; it must be a number.")
    for number, point in enumerate(points):
        _check_point(point, number, index)
    times = tuple(None if point.get("t") is None else float(point["t"]) for point in points)
    visible = tuple(point.get("visible", True) for point in points)
    try:
        return Track(
            tuple((float(point["x"]), float(point["y"])) for point in points),
            times if any(time is not None for time in times) else (),
            () if all(visible) else visible,
            spline,
            float(size),
        )
    except InputError as error:
        raise InputError(f"Track {index}: {error}") from error


def _check_point(point: Any, index: int, track: int) -> None:
    rule = None
    if not isinstance(point, dict) or not {"x", "y"} <= set(point) <= _POINT_KEYS:
        rule = f'{_POINT}, optionally with "t" and "visible"'
    elif not (_is_number(point["x"]) and _is_number(point["y"])):
        rule = _POINT
    elif point.get("t") is not None and not _is_number(point["t"]):
        rule = 'a point whose "t" is a number from 0 to 1'
    elif type(point.get("visible", True)) is not bool:
        rule = 'a point whose "visible" is true or false'
    if rule is not None:
        raise InputError(f"Point {index} of track {track} is {short(point)}; it must be {rule}.")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def blob_radius(track: Track, height: int, width: int) -> int:
    """Half the side of the blob drawn at a point, in pixels."""
    return int(_RADIUS_AT_720P * math.sqrt(height * width / (1280 * 720)) * track.size)


def _gaussian_bump() -> Tensor:
    """[200, 200] in [0, 1] in steps of 1/255, zero outside a disc of radius 99."""
    offsets = torch.arange(_BUMP_SIZE, dtype=torch.float64) - _BUMP_SIZE / 2
    profile = torch.exp(-0.5 * (offsets / _BUMP_SIGMA) ** 2)
    bump = profile[:, None] * profile[None, :] * _disc()
    return (bump * 255).floor().div(255).to(torch.float32)


def _disc() -> Tensor:
    """A filled disc as drawn by the midpoint circle algorithm, so that its edge pixels match."""
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
    """Bilinear without antialiasing, like OpenCV's default resize."""
    return F.interpolate(bump[None, None], size=(height, width), mode="bilinear")[0, 0]
