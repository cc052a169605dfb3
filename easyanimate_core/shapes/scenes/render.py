"""Renders a scene with its masks, outlines, depth, tracks and camera path.

Everything is on one plane in front of the first camera and is projected along the camera path.
Pixel i covers [i, i + 1), so the centre of an image is at half its size.

Shape letters: B bodies, F frames, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .scene import COLOURS, PLANE_DEPTH, SIZES, TINTS, Body, Ground, Scene

if TYPE_CHECKING:
    from ...paths.camera import CameraPath
    from ...paths.trajectory import Track

Array = NDArray[np.floating[Any]]

CONTROLS = ("edges", "depth", "trajectory")

_GROUND_DEPTH = 0.2
_CONTRAST = 0.24  # how much lighter and darker than its tint a texture gets
_PERIOD = 0.25  # of stripes and checks, as a share of the shorter side
_CLOUD_CELL = 0.22
_LATTICE = 32
_OUTLINE = 1.5  # half the outline of the outlined look, in pixels
_WHITE, _BLACK = 0.92, 0.16  # every channel of such a pixel is above, or below
_STILL = 1e-3  # a centre that moves less stands still, in pixels
_EDGE = 1.0  # half the outline in the edges, in pixels


@dataclass(frozen=True)
class Rendered:
    """A clip with its ground truth.

    `frames` [F, H, W, 3] uint8. `distances` [B, F, H, W] float32: signed distance of every pixel
    centre to each body's outline, in pixels, negative inside; exact along the sides, mitred at
    corners. `near` [B] is each body's brightness in the depth map.
    """

    frames: NDArray[np.uint8]
    distances: Array
    near: tuple[float, ...]

    @cached_property
    def body_masks(self) -> NDArray[np.bool_]:
        """[B, F, H, W]: where each body is visible."""
        inside = self.distances < 0
        for back in range(len(inside) - 1):
            inside[back] &= ~inside[back + 1 :].any(0)
        return inside

    @property
    def masks(self) -> NDArray[np.bool_]:
        """[F, H, W]: where the main body is visible."""
        masks: NDArray[np.bool_] = self.body_masks[0]
        return masks

    @cached_property
    def depth(self) -> Array:
        """[F, H, W] in 0 to 1: bright is near, as in depth control videos."""
        depth = np.full(self.distances.shape[1:], _GROUND_DEPTH, np.float32)
        for near, mask in zip(self.near, self.body_masks, strict=True):
            depth[mask] = near
        return depth

    @cached_property
    def edges(self) -> NDArray[np.uint8]:
        """[F, H, W, 3]: outlines of the visible parts of bodies, 2 pixels wide, white on black."""
        drawn = np.zeros(self.distances.shape[1:], np.float32)
        for distance in self.distances:
            drawn = np.maximum(drawn * (1 - _coverage(distance)), _line(distance, _EDGE))
        return np.repeat(_levels(drawn * 255)[..., None], 3, axis=-1)


def render(scene: Scene) -> Rendered:
    """Render `scene`: the same scene always gives the same bytes."""
    scale_F, offset_F2 = _projection(scene)
    distances = np.stack([_distance(scene, body, scale_F, offset_F2) for body in scene.bodies])
    if scene.look == "outlined":
        levels = np.full((3, *distances.shape[1:]), 255, np.float32)
    else:
        levels = _ground_levels(scene, scale_F, offset_F2)
    for body, distance in zip(scene.bodies, distances, strict=True):
        cover = _coverage(distance)
        for channel, value in enumerate(COLOURS[body.colour]):
            levels[channel] += (value - levels[channel]) * cover
        if scene.look == "outlined":
            levels *= 1 - _line(distance, _OUTLINE)
    frames = np.ascontiguousarray(np.moveaxis(_levels(levels), 0, -1))
    return Rendered(frames, distances, tuple(body.depth for body in scene.bodies))


def camera_of(scene: Scene) -> CameraPath:
    """The camera path of `scene` for the Control-Camera head."""
    from ...paths.camera import camera_path

    return camera_path([scene.camera], frames=scene.frames, speed=scene.speed, exact=True)


def tracks_of(scene: Scene) -> tuple[Track, ...]:
    """Centres of the bodies that move in the image, in pixels, one point per frame.

    A body hidden behind another still has points. A body that only changes does not move.
    """
    from ...paths.trajectory import Track

    seen = [_centre(scene, body, *_projection(scene)) for body in scene.bodies]
    moving = [centre_F2 for centre_F2 in seen if np.ptp(centre_F2, axis=0).max() > _STILL]
    return tuple(Track(tuple((x, y) for x, y in centre_F2.tolist())) for centre_F2 in moving)


def control_video(scene: Scene, kind: str) -> Array:
    """The control video of `kind` for `scene`, [F, H, W, 3] in 0 to 1.

    For "trajectory", a scene without a moving body has black frames.
    """
    if kind == "edges":
        return render(scene).edges.astype(np.float32) / 255
    if kind == "depth":
        return np.repeat(render(scene).depth[..., None], 3, axis=-1)
    if kind != "trajectory":
        raise InputError(f"The control is {kind!r}; it must be one of {', '.join(CONTROLS)}.")
    from ...paths.trajectory import heatmap_frames

    tracks = tracks_of(scene)
    if not tracks:
        return np.zeros((scene.frames, scene.height, scene.width, 3), np.float32)
    drawn: Array = heatmap_frames(tracks, height=scene.height, width=scene.width).numpy()
    return drawn


def reference(scene: Scene) -> NDArray[np.uint8]:
    """The first frame, [H, W, 3] uint8."""
    frame: NDArray[np.uint8] = render(scene).frames[0]
    return frame


def outlined_measure(frames: Array) -> tuple[float, float]:
    """The shares of white and black pixels in `frames` [..., 3] in 0 to 1.

    They identify the "outlined" look: its clips are at least 0.75 white and 0.01 black (the
    outlines), textured ones at most 0.15 white and never black.
    """
    white = frames.min(-1) >= _WHITE
    black = frames.max(-1) <= _BLACK
    return float(white.mean()), float(black.mean())


def _projection(scene: Scene) -> tuple[Array, Array]:
    """Scale [F] and offset [F, 2] that map a pixel (x, y) of the first camera to every camera.

    The plane is parallel to the image plane of all cameras, so there is nothing else.
    """
    if scene.camera == "Static":
        return np.ones(scene.frames, np.float32), np.zeros((scene.frames, 2), np.float32)
    from ...paths.camera import pixel_lenses

    path = camera_of(scene)
    focal_F2, centre_F2 = (part.numpy() for part in pixel_lenses(path, scene.height, scene.width))
    shift_F3 = path.world_to_camera[:, :, 3].numpy()
    scale_F = PLANE_DEPTH / (PLANE_DEPTH + shift_F3[:, 2])
    moved_F2 = focal_F2 * shift_F3[:, :2] / (PLANE_DEPTH + shift_F3[:, 2:])
    offset_F2 = moved_F2 + centre_F2 - centre_F2[0] * scale_F[:, None]
    return scale_F.astype(np.float32), offset_F2.astype(np.float32)


def _time(scene: Scene) -> NDArray[np.float64]:
    return np.arange(scene.frames) / max(scene.frames - 1, 1)


def _centre(scene: Scene, body: Body, scale_F: Array, offset_F2: Array) -> Array:
    """[F, 2]: the projected centre of the body, in pixels."""
    start, end = np.array(body.start), np.array(body.end)
    place_F2 = start + _time(scene)[:, None] * (end - start)
    seen = place_F2 * (scene.width, scene.height) * scale_F[:, None] + offset_F2
    return seen.astype(np.float32)


def _distance(scene: Scene, body: Body, scale_F: Array, offset_F2: Array) -> Array:
    """[F, H, W]: signed distance to the body's outline, in pixels."""
    time_F = _time(scene)
    centre_F2 = _centre(scene, body, scale_F, offset_F2)
    growth_F = body.start_scale + time_F * (body.end_scale - body.start_scale)
    radius_F = SIZES[body.size] * min(scene.height, scene.width) * growth_F * scale_F
    radius = radius_F.astype(np.float32)[:, None, None]
    x = np.arange(scene.width, dtype=np.float32)[None, None] + 0.5 - centre_F2[:, 0, None, None]
    y = np.arange(scene.height, dtype=np.float32)[None, :, None] + 0.5 - centre_F2[:, 1, None, None]
    angle_F = body.angle + time_F * body.turn
    if angle_F.any():  # +y is down, so this turns the shape clockwise
        cosine, sine = (f(angle_F).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
        x, y = x * cosine + y * sine, y * cosine - x * sine
    return _SHAPES[body.shape](x, y, radius)


def _circle(x: Array, y: Array, radius: Array) -> Array:
    return np.sqrt(x * x + y * y) - radius


def _square(x: Array, y: Array, radius: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.84 * radius


def _triangle(x: Array, y: Array, radius: Array) -> Array:
    """An equilateral triangle, pointing up, centred on its centroid."""
    slope = np.float32(np.sqrt(0.75))
    return np.maximum(np.abs(x) * slope - y * np.float32(0.5), y) - 0.6 * radius


def _cross(x: Array, y: Array, radius: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    arm, half = np.float32(1.05) * radius, np.float32(0.36) * radius
    upright = np.maximum(x - half, y - arm)
    across = np.maximum(x - arm, y - half)
    return np.minimum(upright, across)


_SHAPES: dict[str, Any] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}


def _coverage(distance: Array) -> Array:
    """Coverage of a pixel by the inside of a locally straight outline."""
    return np.clip(np.float32(0.5) - distance, 0, 1)


def _line(distance: Array, half: float) -> Array:
    """Coverage of a pixel by the band within `half` of the outline."""
    return np.clip(np.float32(half + 0.5) - np.abs(distance), 0, 1)


def _levels(values: Array) -> NDArray[np.uint8]:
    return (values + np.float32(0.5)).astype(np.uint8)


def _ground_levels(scene: Scene, scale_F: Array, offset_F2: Array) -> Array:
    """[3, F, H, W]: the ground as seen by every camera, 0 to 255."""
    side = min(scene.height, scene.width)
    moving = scene.camera != "Static"
    scale, offset = (scale_F, offset_F2) if moving else (scale_F[:1], offset_F2[:1])
    x_FW = (np.arange(scene.width, dtype=np.float32) + 0.5 - offset[:, :1]) / scale[:, None] / side
    y_FH = (np.arange(scene.height, dtype=np.float32) + 0.5 - offset[:, 1:]) / scale[:, None] / side
    pattern = _pattern(scene.ground, x_FW, y_FH, (scene.seed, scene.index))  # -1 to 1
    light = 1 + _CONTRAST * pattern
    tint = np.array(TINTS[scene.ground.tint], np.float32)[:, None, None, None]
    levels = tint * light
    if not moving:
        levels = np.repeat(levels, scene.frames, axis=1)
    return levels


def _pattern(ground: Ground, x_FW: Array, y_FH: Array, entropy: tuple[int, int]) -> Array:
    """[F, H, W] in -1 to 1: the texture at plane coordinates in units of the shorter side."""
    if ground.texture == "plain":
        return np.zeros((len(x_FW), y_FH.shape[1], x_FW.shape[1]), np.float32)
    if ground.texture == "clouds":
        return _clouds(x_FW, y_FH, entropy)
    turns_x = np.float32(2 * np.pi) * (x_FW / _PERIOD + ground.phase[0])[:, None, :]
    turns_y = np.float32(2 * np.pi) * (y_FH / _PERIOD + ground.phase[1])[:, :, None]
    if ground.texture == "stripes":  # diagonal, so that horizontal and vertical moves are visible
        return _steps(np.sin((turns_x + turns_y) * np.float32(0.75)))
    return _steps(np.sin(turns_x)) * _steps(np.sin(turns_y))


def _steps(wave: Array) -> Array:
    """A square wave between light and dark with edges about a pixel wide at usual sizes."""
    return np.clip(wave * 4, -1, 1)


def _clouds(x_FW: Array, y_FH: Array, entropy: tuple[int, int]) -> Array:
    """Two octaves of value noise. Bilinear interpolation is computed as two matrix products."""
    lattice = np.random.default_rng(entropy).random((2, _LATTICE, _LATTICE), np.float32) * 2 - 1
    noise = np.zeros((len(x_FW), y_FH.shape[1], x_FW.shape[1]), np.float32)
    for values, cell, share in zip(
        lattice, (_CLOUD_CELL, _CLOUD_CELL / 2), (0.9, 0.5), strict=True
    ):
        across, down = _weights(x_FW / cell), _weights(y_FH / cell)  # [F, W, N], [F, H, N]
        noise += np.float32(share) * (down @ values @ across.transpose(0, 2, 1))
    return np.clip(noise, -1, 1)


def _weights(position: Array) -> Array:
    """[F, K, N]: weights of the lattice points at `position` [F, K]; the lattice is periodic."""
    away = np.abs((position[..., None] - np.arange(_LATTICE)) % _LATTICE)
    near = np.clip(1 - np.minimum(away, _LATTICE - away), 0, 1)
    return (near * near * (3 - 2 * near)).astype(np.float32)
