"""Previews of a camera path, from above and from the side, and of tracks over the first frame.

Coordinates are those of the first camera: +x right, +y down, +z forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError, counted
from ..media import check_pixels, drawn_pixels, resize_cover, to_bytes
from .camera import CameraPath
from .trajectory import Track, blob_radius, resample

_Colour = tuple[int, int, int]
_Place = tuple[float, float]
_SCALE = 2  # drawn larger, then downscaled for smooth lines

# Camera paths.
_PANEL, _MARGIN, _HEAD, _FOOT = 480, 24, 44, 56
_BACKGROUND, _FIELD, _GRID, _AXIS = (22, 24, 29), (30, 33, 40), (44, 48, 57), (66, 71, 84)
_TEXT, _FAINT = (236, 238, 242), (150, 156, 168)
_START, _END = (98, 210, 140), (240, 110, 90)
_MOST_CAMERAS = 9
_LEAST_SPAN = 2.0  # in units of the poses: small moves are not enlarged beyond this

# Tracks.
_COLOURS = (
    (255, 99, 88), (80, 190, 255), (255, 205, 70), (120, 220, 130), (205, 130, 255),
    (255, 150, 60), (70, 220, 210), (255, 130, 190),
)  # fmt: skip
_OUTLINE = (12, 13, 16)
_LIGHT = (255, 255, 255)
_DIMMED = 0.65  # so that bright images do not hide the tracks
_DOT_EVERY = 8  # frames, which are one second


@dataclass(frozen=True)
class _View:
    """One panel: the coordinates that point right and up, and their signs."""

    title: str
    axes: tuple[int, int]
    signs: tuple[int, int]
    names: tuple[str, str]


_VIEWS = (
    _View("from above", (0, 2), (1, 1), ("right", "forward")),
    _View("from the right side", (2, 1), (1, -1), ("forward", "up")),
)


@dataclass(frozen=True)
class _Cameras:
    """The path in the first camera's coordinates.

    `positions` [F, 3]; `axes` [F, 3, 3], whose columns are right, down and forward; `lens` [F, 2],
    half the width and height that is visible at distance 1.
    """

    positions: Tensor
    axes: Tensor
    lens: Tensor


def camera_preview(path: CameraPath) -> Tensor:
    """Draw the path as [1, height, width, 3] in [0, 1].

    Green is the first camera, red the last. Up to nine cameras are shown, with their field of view
    and viewing direction.
    """
    cameras = _cameras(path)
    shown = torch.linspace(0, len(path) - 1, min(_MOST_CAMERAS, len(path))).round().long().tolist()
    depth = _frustum_depth(cameras)
    width = 2 * _PANEL + 3 * _MARGIN
    height = _PANEL + _HEAD + _FOOT
    picture = Image.new("RGB", (width * _SCALE, height * _SCALE), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for index, view in enumerate(_VIEWS):
        panel = _Panel(draw, view, _MARGIN + index * (_PANEL + _MARGIN), _HEAD)
        panel.fit([cameras.positions, *(_corners(cameras, i, depth) for i in shown)])
        panel.draw_grid()
        panel.draw_cameras(cameras, shown, depth)
    _text(draw, (_MARGIN, 12), f"Camera path, {_frames(len(path))}", 18, _TEXT)
    left = _MARGIN
    foot = _HEAD + _PANEL + 14
    for colour, text in ((_START, "first"), (_END, "last")):
        draw.ellipse(_box(((left + 6) * _SCALE, (foot + 9) * _SCALE), 6 * _SCALE), fill=colour)
        _text(draw, (left + 18, foot), text, 15, _FAINT)
        left += 74
    _text(draw, (left + 10, foot), _summary(path, cameras), 15, _TEXT)
    return drawn_pixels(picture, scale=_SCALE)


class _Panel:
    """A square view of the scene from one side, scaled to fit the given points."""

    def __init__(self, draw: ImageDraw.ImageDraw, view: _View, left: int, top: int) -> None:
        self.draw, self.view = draw, view
        self.box = [value * _SCALE for value in (left, top, left + _PANEL, top + _PANEL)]
        self.centre = (0.0, 0.0)
        self.span = _LEAST_SPAN

    def fit(self, points: Sequence[Tensor]) -> None:
        """Choose centre and scale so that all `points` [N, 3] are visible."""
        seen = torch.cat([self._flat(part) for part in points])
        low, high = seen.amin(0), seen.amax(0)
        middle = (low + high) / 2
        self.centre = (float(middle[0]), float(middle[1]))
        self.span = max(float((high - low).max()) * 1.2, _LEAST_SPAN)

    def draw_grid(self) -> None:
        """Grid lines at round distances, brighter through the origin, and the axis names."""
        left, top, right, bottom = self.box
        self.draw.rectangle(self.box, fill=_FIELD)
        step = _round_step(self.span / 5)
        for axis in (0, 1):
            first = math.ceil((self.centre[axis] - self.span / 2) / step)
            last = math.floor((self.centre[axis] + self.span / 2) / step)
            for number in range(first, last + 1):
                colour = _GRID if number else _AXIS
                place = self._pixel(number * step, number * step)[axis]
                ends = (place, top, place, bottom) if axis == 0 else (left, place, right, place)
                self.draw.line(ends, fill=colour, width=_SCALE)
                label = f"{number * step:g}"
                if axis == 0 and left + 20 < place < right - 60 * _SCALE:
                    self._label((place + 4, bottom - 18 * _SCALE), label)
                elif axis == 1 and top + 30 * _SCALE < place < bottom - 24 * _SCALE:
                    self._label((left + 4, place + 2), label)
        _text(self.draw, (left // _SCALE + 8, top // _SCALE + 6), self.view.title, 15, _TEXT)
        across, up = self.view.names
        self._label((right - 8 * _SCALE, bottom - 18 * _SCALE), f"{across} >", anchor="ra")
        self._label((right - 8 * _SCALE, top + 8 * _SCALE), f"{up} ^", anchor="ra")

    def draw_cameras(self, cameras: _Cameras, shown: Sequence[int], depth: float) -> None:
        """The path, the cameras on it, and markers at its ends."""
        way = [self._pixel(*point) for point in self._flat(cameras.positions).tolist()]
        last = max(len(way) - 1, 1)
        for index in shown:
            self._draw_frustum(cameras, index, depth, _mix(index / last))
        for index in range(len(way) - 1):
            ends = (*way[index], *way[index + 1])
            self.draw.line(ends, fill=_mix(index / last), width=3 * _SCALE)
        for index in shown:
            self.draw.ellipse(_box(way[index], 3 * _SCALE), fill=_mix(index / last))
        # The start is a ring, which an end at the same place does not hide.
        self.draw.ellipse(_box(way[-1], 6 * _SCALE), fill=_END)
        self.draw.ellipse(_box(way[0], 8 * _SCALE), outline=_START, width=3 * _SCALE)

    def _draw_frustum(self, cameras: _Cameras, index: int, depth: float, colour: _Colour) -> None:
        apex, *corners = (
            self._pixel(*point) for point in self._flat(_corners(cameras, index, depth)).tolist()
        )
        looked_at = cameras.positions[index] + cameras.axes[index, :, 2] * depth * 1.3
        gaze = self._pixel(*self._flat(looked_at[None])[0].tolist())
        pale = _mix_colours(_FIELD, colour, 0.55)
        for corner in corners:
            self.draw.line((*apex, *corner), fill=pale, width=_SCALE)
        # The image's edges; the top edge is stronger, so that a roll is visible.
        for number, corner in enumerate(corners):
            follows = corners[(number + 1) % 4]
            fill, width = (colour, 2 * _SCALE) if number == 0 else (pale, _SCALE)
            self.draw.line((*corner, *follows), fill=fill, width=width)
        self.draw.line((*apex, *gaze), fill=colour, width=2 * _SCALE)
        self._draw_arrow_head(apex, gaze, colour)

    def _draw_arrow_head(self, start: _Place, end: _Place, colour: _Colour) -> None:
        x, y = end[0] - start[0], end[1] - start[1]
        length = math.hypot(x, y)
        if length < 12 * _SCALE:  # seen head-on: there is no direction to show
            return
        x, y = x / length * 8 * _SCALE, y / length * 8 * _SCALE
        sides = [(end[0] - x - y / 2, end[1] - y + x / 2), (end[0] - x + y / 2, end[1] - y - x / 2)]
        self.draw.polygon([end, *sides], fill=colour)

    def _flat(self, points: Tensor) -> Tensor:
        """Project points [N, 3] to right and up in this view, [N, 2]."""
        signs = torch.tensor(self.view.signs, dtype=points.dtype)
        return points[:, list(self.view.axes)] * signs

    def _pixel(self, across: float, up: float) -> _Place:
        left, top, right, bottom = self.box
        scale = (right - left) / self.span
        return (
            (left + right) / 2 + (across - self.centre[0]) * scale,
            (top + bottom) / 2 - (up - self.centre[1]) * scale,
        )

    def _label(self, place: _Place, text: str, anchor: str = "la") -> None:
        font = ImageFont.load_default(size=12 * _SCALE)
        self.draw.text(place, text, font=font, fill=_FAINT, anchor=anchor)


def _cameras(path: CameraPath) -> _Cameras:
    rotation, translation = path.world_to_camera.split([3, 1], dim=2)
    to_world = torch.linalg.pinv(rotation)
    positions = -(to_world @ translation)[:, :, 0]
    lens = torch.tensor([(0.5 / k.fx, 0.5 / k.fy) for k in path.intrinsics], dtype=torch.float64)
    return _Cameras((positions - positions[0]) @ rotation[0].mT, rotation[0] @ to_world, lens)


def _frustum_depth(cameras: _Cameras) -> float:
    """Depth of the drawn frustums, small enough not to hide the path."""
    extent = float((cameras.positions.amax(0) - cameras.positions.amin(0)).max())
    return max(extent, _LEAST_SPAN) * 0.22


def _corners(cameras: _Cameras, index: int, depth: float) -> Tensor:
    """The camera and the corners of its image at `depth`, from the upper left: [5, 3]."""
    half_width, half_height = cameras.lens[index].tolist()
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    rays = torch.tensor([(x * half_width, y * half_height, 1.0) for x, y in signs]).double()
    corners = cameras.positions[index] + rays * depth @ cameras.axes[index].mT
    return torch.cat([cameras.positions[index][None], corners])


def _summary(path: CameraPath, cameras: _Cameras) -> str:
    """The last camera's pose relative to the first."""
    x, y, z = cameras.positions[-1].tolist()
    right, down, before = cameras.axes[-1].unbind(1)
    yaw = math.degrees(math.atan2(before[0], before[2]))
    pitch = math.degrees(math.asin(max(-1.0, min(1.0, -float(before[1])))))
    roll = math.degrees(math.atan2(right[1], down[1]))
    lens = path.intrinsics[-1].fx / path.intrinsics[0].fx
    parts = [f"right {_tidy(x)}", f"up {_tidy(-y)}", f"forward {_tidy(z)}", f"yaw {_tidy(yaw)}°"]
    parts += [f"pitch {_tidy(pitch)}°", f"roll {_tidy(roll)}°"]
    parts += [f"lens x {lens:.2f}"] if abs(lens - 1) > 0.005 else []
    return "Last camera:  " + "   ".join(parts)


def _tidy(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _frames(count: int) -> str:
    return counted(count, "frame")


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10 ... (and 0.5, 0.2 ...) that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _mix(share: float) -> _Colour:
    return _mix_colours(_START, _END, share)


def _mix_colours(first: _Colour, second: _Colour, share: float) -> _Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: _Colour
) -> None:
    x, y = place
    font = ImageFont.load_default(size=size * _SCALE)
    draw.text((x * _SCALE, y * _SCALE), text, font=font, fill=colour)


def track_preview(
    tracks: Sequence[Track],
    *,
    height: int,
    width: int,
    frames: int,
    image: Tensor | None = None,
) -> Tensor:
    """Draw tracks over `image` [1, H, W, 3], or over black: [1, height, width, 3].

    A numbered disc marks a track's start, an arrow its end, a dot every eighth frame; a ring shows
    the size of the blob; hidden parts are dotted. The image is dimmed.
    """
    if min(height, width) < 1 or not tracks:
        raise InputError(
            f"The size is {height} x {width}, with {len(tracks)} tracks; both sides must be "
            "positive, and there must be at least one track."
        )
    picture = _background(image, height, width)
    draw = ImageDraw.Draw(picture)
    unit = max(2.0, min(height, width) / 200) * _SCALE  # line widths scale with the size
    for number, track in enumerate(tracks):
        brush = _Brush(draw, _COLOURS[number % len(_COLOURS)], unit)
        brush.draw_way(resample(track, frames), blob_radius(track, height, width))
    for number, track in enumerate(tracks):
        brush = _Brush(draw, _COLOURS[number % len(_COLOURS)], unit)
        brush.draw_start(resample(track, frames).points[0], number + 1)
    return drawn_pixels(picture, scale=_SCALE)


class _Brush:
    """One track's colour and line width."""

    def __init__(self, draw: ImageDraw.ImageDraw, colour: _Colour, unit: float) -> None:
        self.draw, self.colour, self.unit = draw, colour, unit

    def draw_way(self, track: Track, radius: int) -> None:
        """A track with one point per frame, the size of its blob, and its end."""
        points = [(x * _SCALE, y * _SCALE) for x, y in track.points]
        visible = track.visible or (True,) * len(points)
        self._ring(points[0], radius * _SCALE)
        for width, colour in ((2.0, _OUTLINE), (1.1, self.colour)):
            for index in range(len(points) - 1):
                if visible[index]:
                    self._line(points[index], points[index + 1], colour, width)
        for index, point in enumerate(points):
            if not visible[index]:
                self._disc(point, 0.7, self.colour, _OUTLINE)
            elif index % _DOT_EVERY == 0 and index:
                self._disc(point, 1.35, _LIGHT, _OUTLINE)
        self._draw_end(points)

    def draw_start(self, point: _Place, number: int) -> None:
        """A disc with the track's number."""
        x, y = point[0] * _SCALE, point[1] * _SCALE
        self._disc((x, y), 4.3, _LIGHT)
        self._disc((x, y), 3.7, self.colour)
        font = ImageFont.load_default(size=self.unit * 5.4)
        self.draw.text((x, y), str(number), font=font, fill=_OUTLINE, anchor="mm")

    def _draw_end(self, points: Sequence[_Place]) -> None:
        """An arrow head along the last part of the track; nothing if it does not move."""
        tip = points[-1]
        far = next((p for p in reversed(points) if math.dist(p, tip) > self.unit), None)
        if far is None:
            return
        length = math.dist(far, tip)
        x, y = (tip[0] - far[0]) / length, (tip[1] - far[1]) / length
        for size, colour in ((7.4, _OUTLINE), (5.6, self.colour)):
            long, wide = self.unit * size, self.unit * size * 0.48
            centre = tip[0] - x * long * 0.35, tip[1] - y * long * 0.35
            back = centre[0] - x * long * 0.5, centre[1] - y * long * 0.5
            corners = [(back[0] - y * wide, back[1] + x * wide)]
            corners += [(back[0] + y * wide, back[1] - x * wide)]
            front = centre[0] + x * long * 0.65, centre[1] + y * long * 0.65
            self.draw.polygon([front, *corners], fill=colour)

    def _line(self, start: _Place, end: _Place, colour: _Colour, width: float) -> None:
        self.draw.line((*start, *end), fill=colour, width=max(1, round(self.unit * width)))
        for place in (start, end):  # round joints
            self._disc(place, width / 2, colour)

    def _disc(
        self, place: _Place, size: float, fill: _Colour, outline: _Colour | None = None
    ) -> None:
        edge = max(1, round(self.unit * 0.3))
        self.draw.ellipse(_box(place, self.unit * size), fill=fill, outline=outline, width=edge)

    def _ring(self, place: _Place, radius: float) -> None:
        width = max(1, round(self.unit * 0.55))
        self.draw.ellipse(_box(place, radius), outline=self.colour, width=width)


def _background(image: Tensor | None, height: int, width: int) -> Image.Image:
    size = (width * _SCALE, height * _SCALE)
    if image is None:
        return Image.new("RGB", size)
    check_pixels("The image under the tracks", image)
    pixels = resize_cover(image[:1].to("cpu", torch.float32), height, width)[0]
    return Image.fromarray(to_bytes(pixels * _DIMMED)).resize(size, Image.Resampling.BILINEAR)


def _box(place: _Place, radius: float) -> tuple[float, float, float, float]:
    return place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius
