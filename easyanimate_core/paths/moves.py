"""Camera moves beyond the original's, and ways to combine paths.

Coordinates are those of the first camera: +x right, +y down, +z forward. Yaw turns right, pitch up,
roll clockwise.

Shape letters: F frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from .camera import CAMERA_MOVES, CameraPath, Intrinsics, camera_path, move_progress

#: Distance of the point that an orbit circles, in the units of the poses: a pan goes 1.5.
ORBIT_DISTANCE = 3.0

_DOLLY = 1.5
_TURN = math.pi / 6
_ORBIT = math.pi / 4
_LENS = 2.0  # factor on the focal length


@dataclass(frozen=True)
class _Preset:
    """What a move does over the whole path at speed 1.

    `forward` is a distance, `yaw` and `pitch` are angles. An orbit moves the camera around a point
    in front of it; `lens` is the exponent of the change in focal length.
    """

    forward: float = 0
    yaw: float = 0
    pitch: float = 0
    orbits: bool = False
    lens: float = 0


_PRESETS = {
    "Dolly In": _Preset(forward=_DOLLY),
    "Dolly Out": _Preset(forward=-_DOLLY),
    "Turn Left": _Preset(yaw=-_TURN),
    "Turn Right": _Preset(yaw=_TURN),
    "Tilt Up": _Preset(pitch=_TURN),
    "Tilt Down": _Preset(pitch=-_TURN),
    # A camera that orbits a point to the left turns right to keep it in view.
    "Orbit Left": _Preset(yaw=_ORBIT, orbits=True),
    "Orbit Right": _Preset(yaw=-_ORBIT, orbits=True),
    "Orbit Up": _Preset(pitch=-_ORBIT, orbits=True),
    "Orbit Down": _Preset(pitch=_ORBIT, orbits=True),
    "Lens In": _Preset(lens=1),
    "Lens Out": _Preset(lens=-1),
}

#: The original's moves and more. Zoom is the original's name for moving forward and back; Lens
#: changes the focal length.
PRESETS: tuple[str, ...] = (*CAMERA_MOVES, *_PRESETS)


def preset_path(
    presets: str | Sequence[str],
    *,
    frames: int,
    speed: float = 1.0,
    easing: str = "linear",
    exact: bool = True,
    distance: float = ORBIT_DISTANCE,
    intrinsics: Intrinsics | None = None,
) -> CameraPath:
    """`frames` poses of a move, or of several at once, from the identity to their end.

    The strengths of the original's moves add up; the others are then applied in order, relative to
    the moved camera. Without `exact`, the timing is the original's, which stops one step before the
    end. `distance` is that of the point that an orbit circles.
    """
    presets = [presets] if isinstance(presets, str) else list(presets)
    unknown = [preset for preset in presets if preset not in PRESETS]
    if unknown or not presets:
        raise InputError(
            f"The camera moves are {presets!r}; they must be one or more of {', '.join(PRESETS)}."
        )
    if not (math.isfinite(distance) and distance > 0):
        raise InputError(f"The orbit's distance is {distance}; it must be positive.")
    progress = move_progress(frames, speed=speed, easing=easing, exact=exact)
    path = camera_path(
        [preset for preset in presets if preset in CAMERA_MOVES] or CAMERA_MOVES[:1],
        frames=frames,
        speed=speed,
        easing=easing,
        exact=exact,
        intrinsics=intrinsics,
    )
    for preset in presets:
        if preset in _PRESETS:
            path = combine_paths(path, _moved(_PRESETS[preset], progress, distance))
    return path


def _moved(move: _Preset, progress: Tensor, distance: float) -> CameraPath:
    zeros = torch.zeros_like(progress)
    rotations = rotations_of(progress * move.yaw, progress * move.pitch, zeros)
    positions = torch.stack([zeros, zeros, progress * move.forward], dim=-1)
    if move.orbits:
        positions = distance * (rotations[0, :, 2] - rotations[:, :, 2])
    lens = Intrinsics()
    scales = (_LENS ** (progress * move.lens)).tolist()
    lenses = tuple(replace(lens, fx=lens.fx * scale, fy=lens.fy * scale) for scale in scales)
    return CameraPath(poses_of(positions, rotations), lenses)


def rotations_of(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Camera-to-world rotations [F, 3, 3] float64 of angles [F] in radians.

    Their columns are the directions right, down and forward of the camera.
    """
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)

    def matrix(*values: Tensor) -> Tensor:
        return torch.stack(values, dim=-1).reshape(-1, 3, 3).to(torch.float64)

    (cos_y, cos_p, cos_r), (sin_y, sin_p, sin_r) = (
        [of(angle) for angle in (yaw, pitch, roll)] for of in (torch.cos, torch.sin)
    )
    return (
        matrix(cos_y, zero, sin_y, zero, one, zero, -sin_y, zero, cos_y)
        @ matrix(one, zero, zero, zero, cos_p, -sin_p, zero, sin_p, cos_p)
        @ matrix(cos_r, -sin_r, zero, sin_r, cos_r, zero, zero, zero, one)
    )


def poses_of(positions: Tensor, rotations: Tensor) -> Tensor:
    """World-to-camera poses [F, 3, 4] from `positions` [F, 3] and camera-to-world rotations."""
    inverse = rotations.mT
    return torch.cat([inverse, -inverse @ positions[:, :, None].to(inverse)], dim=2)


def positions_of(path: CameraPath) -> Tensor:
    """The cameras' positions, [F, 3]."""
    rotation, translation = path.world_to_camera.split([3, 1], dim=2)
    return -(rotation.mT @ translation)[:, :, 0]


def continue_path(first: CameraPath, second: CameraPath) -> CameraPath:
    """`first`, continued by the motion of `second`; the pose at the joint occurs once.

    So lengths of 4n + 1 give a length of 4n + 1: 25 and 25 frames make 49.
    """
    second = _from_its_start(second)
    poses = _after(first.world_to_camera[-1:], second.world_to_camera[1:])
    lenses = [_lens_after(first.intrinsics[-1], second, i) for i in range(1, len(second))]
    return CameraPath(torch.cat([first.world_to_camera, poses]), (*first.intrinsics, *lenses))


def combine_paths(first: CameraPath, second: CameraPath) -> CameraPath:
    """Both at once: the motion of `second`, relative to the camera moved by `first`."""
    if len(first) != len(second):
        raise InputError(
            f"The camera paths have {len(first)} and {len(second)} poses; paths can be combined "
            "only if they are equally long. Give both the same length."
        )
    second = _from_its_start(second)
    lenses = tuple(_lens_after(lens, second, i) for i, lens in enumerate(first.intrinsics))
    return CameraPath(_after(first.world_to_camera, second.world_to_camera), lenses)


def joined(paths: Sequence[CameraPath]) -> CameraPath:
    """The paths one after the other, as in `continue_path`."""
    path, *others = paths
    for other in others:
        path = continue_path(path, other)
    return path


def _from_its_start(path: CameraPath) -> CameraPath:
    """The path in its first camera's coordinates."""
    rotation, translation = path.world_to_camera[0].split([3, 1], dim=1)
    if bool((rotation @ rotation.mT - torch.eye(3)).abs().max() > 1e-3):
        raise InputError(
            "The camera path's first pose is not a rotation, so it cannot be continued. Correct "
            "the pose."
        )
    start = torch.cat([rotation.mT, -rotation.mT @ translation], dim=1)
    if torch.equal(start, torch.eye(3, 4, dtype=start.dtype)):
        return path  # bit-identical
    return CameraPath(_after(start[None], path.world_to_camera), path.intrinsics)


def _after(first: Tensor, second: Tensor) -> Tensor:
    """[F, 3, 4]: `second` in the coordinates of the cameras of `first`."""
    rotation, translation = first.split([3, 1], dim=2)
    turn, shift = second.split([3, 1], dim=2)
    return torch.cat([turn @ rotation, turn @ translation + shift], dim=2)


def _lens_after(lens: Intrinsics, second: CameraPath, index: int) -> Intrinsics:
    """`lens`, changed like the intrinsics of `second` since its start."""
    start, now = second.intrinsics[0], second.intrinsics[index]
    return Intrinsics(
        lens.fx * (now.fx / start.fx),
        lens.fy * (now.fy / start.fy),
        lens.cx + (now.cx - start.cx),
        lens.cy + (now.cy - start.cy),
    )
