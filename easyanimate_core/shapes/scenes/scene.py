"""Scenes of synthetic clips: shapes on a textured plane that move, change, or are filmed.

A scene is fully determined by (seed, index, kind), on any machine. Positions are fractions of the
image's width and height, sizes fractions of its shorter side, both as seen by the first camera.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ...errors import InputError

Value = TypeVar("Value")
Point = tuple[float, float]

SHAPES = ("circle", "square", "triangle", "cross")

#: Colours of bodies: saturated and far apart.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 36),
    "green": (36, 186, 48),
    "blue": (32, 64, 228),
    "yellow": (246, 216, 28),
    "purple": (158, 40, 200),
    "white": (250, 250, 250),
}

TEXTURES = ("plain", "stripes", "checks", "clouds")

#: Colours of grounds: muted, so that every body stands out.
TINTS: dict[str, tuple[int, int, int]] = {
    "grey": (112, 112, 112),
    "brown": (116, 90, 66),
    "teal": (62, 108, 108),
}

#: Radius of a circle, and roughly of other shapes, as a fraction of the shorter side.
SIZES = {"small": 0.135, "large": 0.215}

#: Extent of a shape from its centre, in radii.
REACH = 1.2

#: "textured" looks as captioned; "outlined" has black outlines on a plain white ground.
LOOKS = ("textured", "outlined")

#: Kinds of scenes; "mixed" and "varied" sample one of the others with the weights in `SHARES`.
KINDS = ("mixed", "move", "change", "occlusion", "camera", "varied")

#: "varied" favours what is hard to learn: camera moves, and bodies that grow, shrink and turn.
SHARES = {
    "mixed": {"move": 0.60, "change": 0.12, "occlusion": 0.13, "camera": 0.15},
    "varied": {"move": 0.20, "camera": 0.40, "change": 0.25, "occlusion": 0.15},
}

#: Screen direction -> step in (x, y); +y is down.
DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}

CHANGES = ("grow", "shrink", "turn")

#: Camera move -> direction in which the content moves.
PANS = {"Pan Left": "right", "Pan Right": "left", "Pan Up": "down", "Pan Down": "up"}
ZOOMS = ("Zoom In", "Zoom Out")
CAMERAS = ("Static", *PANS, *ZOOMS)

#: Distance of the plane from the first camera, in the units of the camera path.
PLANE_DEPTH = 4.0

# Copied from `paths.camera`, which needs PyTorch: the extent of a pan and a zoom at speed 1, and
# the focal length, in image heights up to 16:9, in 9/16 of the width for wider images.
_PAN_LENGTH, _ZOOM_LENGTH = 1.5, 3.0
_FOCAL = 0.946026558

_TRAVEL = (0.35, 0.55)
_PAN_TRAVEL = (0.25, 0.45)
_ZOOM_FACTOR = (1.4, 1.8)
_TURN = (math.pi / 2, math.pi)  # clockwise
_FAR, _NEAR = 0.55, 0.9
_BACK_SCALE = 0.85  # for a body that passes behind another: both are fully visible at start and end


@dataclass(frozen=True)
class Ground:
    """`texture` and `tint`, and the phase of the pattern: two fractions of its period."""

    texture: str
    tint: str
    phase: Point = (0.0, 0.0)


@dataclass(frozen=True)
class Body:
    """A shape that moves uniformly from start to end over the clip.

    `start` and `end` are centres (x, y). The radius is that of `size` times a scale that goes from
    `start_scale` to `end_scale`. `angle` is the initial orientation and `turn` the rotation, in
    radians clockwise. `depth` is its brightness in the depth map: 1 is near, the ground is 0.2.
    """

    shape: str
    colour: str
    size: str
    start: Point
    end: Point
    start_scale: float = 1.0
    end_scale: float = 1.0
    angle: float = 0.0
    turn: float = 0.0
    depth: float = _NEAR


@dataclass(frozen=True)
class Scene:
    """All that `render` and `caption` need. `bodies[0]` is the main one, the last is in front.

    `kind` is one of `KINDS` other than the keys of `SHARES`. `camera` is "Static", or a pan or a
    zoom of `paths.camera` at `speed`. `motion` is the main body's own: a direction, a change, or
    "still".
    """

    seed: int
    index: int
    height: int
    width: int
    frames: int
    kind: str
    ground: Ground
    bodies: tuple[Body, ...]
    motion: str
    camera: str = "Static"
    speed: float = 0.0
    look: str = "textured"

    @property
    def main(self) -> Body:
        """The body that the caption begins with."""
        return self.bodies[0]


def make_scene(
    seed: int,
    index: int,
    *,
    kind: str = "mixed",
    height: int = 96,
    width: int = 96,
    frames: int = 17,
    look: str = "textured",
) -> Scene:
    """Scene `index` of the endless list defined by `seed` and `kind`.

    A mixed or varied scene equals the scene of its own kind with the same seed and index. Another
    seed gives another list, for held-out clips. The look changes nothing else.
    """
    _check(seed, index, kind, height, width, frames, look)
    if kind in SHARES:
        kind = _drawn_kind(SHARES[kind], _Draw([seed, index]))
    draw = _Draw([seed, index, KINDS.index(kind)])
    maker = {"move": _move, "change": _change, "occlusion": _occlusion, "camera": _camera}[kind]
    # A plain ground would hide camera moves.
    textures = TEXTURES[1:] if kind == "camera" else TEXTURES
    ground = Ground(draw.one_of(textures), draw.one_of(list(TINTS)), (draw.share(), draw.share()))
    bodies, motion, camera, speed = maker(draw, (width, height))
    return Scene(
        seed, index, height, width, frames, kind, ground, bodies, motion, camera, speed, look
    )


class _Draw:
    """Samples from uniform numbers only, the part of NumPy's generators that is stable."""

    def __init__(self, entropy: Sequence[int]) -> None:
        self._generator = np.random.default_rng(list(entropy))

    def share(self) -> float:
        """A number in [0, 1)."""
        return float(self._generator.random())

    def between(self, low: float, high: float) -> float:
        """A number in [`low`, `high`); their mean if the interval is empty."""
        return low + self.share() * (high - low) if high > low else (low + high) / 2

    def one_of(self, values: Sequence[Value]) -> Value:
        """One of `values`, with equal probability."""
        return values[int(self.share() * len(values))]


_Made = tuple[tuple[Body, ...], str, str, float]


def _drawn_kind(shares: Mapping[str, float], draw: _Draw) -> str:
    share = draw.share()
    for kind, part in shares.items():
        share -= part
        if share < 0:
            return kind
    return "move"


def _move(draw: _Draw, sides: Point) -> _Made:
    size, direction = draw.one_of(list(SIZES)), draw.one_of(list(DIRECTIONS))
    shape, colour = draw.one_of(SHAPES), draw.one_of(list(COLOURS))
    start, end = _way(draw, direction, _reach(size, 1, sides), _TRAVEL)
    return (Body(shape, colour, size, start, end),), direction, "Static", 0.0


def _change(draw: _Draw, sides: Point) -> _Made:
    change = draw.one_of(CHANGES)
    colour = draw.one_of(list(COLOURS))
    shape = draw.one_of(SHAPES[1:] if change == "turn" else SHAPES)  # a circle's turn is invisible
    size, end_scale, turn = draw.one_of(list(SIZES)), 1.0, 0.0
    if change == "grow":
        size, end_scale = "small", draw.between(1.8, 2.2)
    elif change == "shrink":
        size, end_scale = "large", draw.between(0.45, 0.55)
    else:
        turn = draw.between(*_TURN)
    centre = _inside(draw, _reach(size, max(1, end_scale), sides))
    body = Body(shape, colour, size, centre, centre, end_scale=end_scale, turn=turn)
    return (body,), change, "Static", 0.0


def _occlusion(draw: _Draw, sides: Point) -> _Made:
    direction = draw.one_of(list(DIRECTIONS))
    colours = list(COLOURS)
    front_colour = draw.one_of(colours)
    colours.remove(front_colour)
    middle = (draw.between(0.49, 0.51), draw.between(0.49, 0.51))
    front = Body(draw.one_of(SHAPES[:2]), front_colour, "large", middle, middle)
    step = DIRECTIONS[direction]
    aside = draw.between(-0.04, 0.04)
    # From one side of the front body to the other, as far as the image allows.
    centre = tuple(
        0.5 if along else place + aside for along, place in zip(step, middle, strict=True)
    )
    half = [0.495 - reach for reach in _reach("small", _BACK_SCALE, sides)]
    start, end = (
        (centre[0] + sign * step[0] * half[0], centre[1] + sign * step[1] * half[1])
        for sign in (-1, 1)
    )
    back = Body(
        draw.one_of(SHAPES), draw.one_of(colours), "small", start, end,
        start_scale=_BACK_SCALE, end_scale=_BACK_SCALE, depth=_FAR,
    )  # fmt: skip
    return (back, front), direction, "Static", 0.0


def _camera(draw: _Draw, sides: Point) -> _Made:
    move = draw.one_of([*PANS, *ZOOMS])
    shape, colour = draw.one_of(SHAPES), draw.one_of(list(COLOURS))
    size = draw.one_of(list(SIZES))
    reach = _reach(size, 1, sides)
    if move in PANS:
        travel = draw.between(*_PAN_TRAVEL)
        start, _ = _way(draw, PANS[move], reach, (travel, travel))
        way = travel * sides[0 if DIRECTIONS[PANS[move]][0] else 1]
        focal = _FOCAL * max(sides[1], sides[0] * 9 / 16)
        speed = way * PLANE_DEPTH / focal / _PAN_LENGTH
    else:
        factor = draw.between(*_ZOOM_FACTOR)
        speed = PLANE_DEPTH / _ZOOM_LENGTH * (1 - 1 / factor if move == "Zoom In" else factor - 1)
        seen = 1 / factor if move == "Zoom In" else 1.0  # the middle part that is never lost
        room = [max(seen / 2 - extent, 0.0) for extent in reach]
        start = (0.5 + draw.between(-room[0], room[0]), 0.5 + draw.between(-room[1], room[1]))
    return (Body(shape, colour, size, start, start),), "still", move, speed


def _reach(size: str, scale: float, sides: Point) -> Point:
    """Extent of a body from its centre, as fractions of width and height."""
    reach = SIZES[size] * REACH * scale * min(sides)
    return reach / sides[0], reach / sides[1]


def _inside(draw: _Draw, reach: Point) -> Point:
    return draw.between(reach[0], 1 - reach[0]), draw.between(reach[1], 1 - reach[1])


def _way(draw: _Draw, direction: str, reach: Point, travel: Point) -> tuple[Point, Point]:
    """Start and end of a body that travels by `travel` and stays inside the image."""
    step = DIRECTIONS[direction]
    axis = 0 if step[0] else 1
    length = draw.between(travel[0], max(travel[0], min(travel[1], 1 - 2 * reach[axis])))
    place = list(_inside(draw, reach))
    low = draw.between(reach[axis], 1 - reach[axis] - length)
    first, last = (low, low + length) if sum(step) > 0 else (low + length, low)
    start, end = place.copy(), place.copy()
    start[axis], end[axis] = first, last
    return (start[0], start[1]), (end[0], end[1])


def _check(
    seed: int, index: int, kind: str, height: int, width: int, frames: int, look: str
) -> None:
    if min(seed, index) < 0:
        raise InputError(f"The seed {seed} and the index {index} must both be 0 or more.")
    if kind not in KINDS:
        raise InputError(f"The kind of scene is {kind!r}; it must be one of {', '.join(KINDS)}.")
    if look not in LOOKS:
        raise InputError(f"The look is {look!r}; it must be one of {', '.join(LOOKS)}.")
    if min(height, width) < 16 or frames < 1:
        raise InputError(
            f"The clip is {height} x {width} with {frames} frames; it needs sides of 16 pixels or "
            "more and at least 1 frame."
        )
