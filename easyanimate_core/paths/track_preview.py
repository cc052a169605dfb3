"""A picture of tracks over the first frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import InputError
from ..media import check_pixels, drawn_pixels, resize_cover, to_bytes
from .trajectory import Track, blob_radius, resample

_SCALE = 2  # drawn larger, then made smaller: smooth lines
_COLOURS = (
    (255, 99, 88), (80, 190, 255), (255, 205, 70), (120, 220, 130), (205, 130, 255),
    (255, 150, 60), (70, 220, 210), (255, 130, 190),
)  # fmt: skip
_OUTLINE = (12, 13, 16)
_LIGHT = (255, 255, 255)
_DIMMED = 0.65  # so that bright pictures do not hide the tracks
_DOT_EVERY = 8  # frames: a second
_Colour = tuple[int, int, int]
_Place = tuple[float, float]


def track_preview(
    tracks: Sequence[Track],
    *,
    height: int,
    width: int,
    frames: int,
    image: Tensor | None = None,
) -> Tensor:
    """Draw the ways of tracks over `image` [1, H, W, 3], or over black: [1, height, width, 3].

    A numbered disc is where a track begins, an arrow where it ends, a dot is every eighth frame; a
    ring has the size of the blob; what is hidden is dotted. The image is dimmed.
    """
    if min(height, width) < 1 or not tracks:
        raise InputError(
            f"The size is {height} x {width} with {len(tracks)} tracks; both sides must be "
            "positive, and at least one track is needed."
        )
    picture = _background(image, height, width)
    draw = ImageDraw.Draw(picture)
    unit = max(2.0, min(height, width) / 200) * _SCALE  # lines keep their look at every size
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
        """The way of a track with a point per frame, its blobs' size and its end."""
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
        """An arrow head along the last stretch of the way; nothing where it stands still."""
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
    check_pixels("The picture under the tracks", image)
    pixels = resize_cover(image[:1].to("cpu", torch.float32), height, width)[0]
    return Image.fromarray(to_bytes(pixels * _DIMMED)).resize(size, Image.Resampling.BILINEAR)


def _box(place: _Place, radius: float) -> tuple[float, float, float, float]:
    return place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius
