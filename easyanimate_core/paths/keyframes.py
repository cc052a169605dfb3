"""Camera paths through keyframes: where the camera is, and where it looks, at certain frames.

Coordinates and angles are those of `moves`: +x right, +y down, +z forward; yaw turns right, pitch
up, roll clockwise. Here, angles are in degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, counted
from .camera import CameraPath, Intrinsics
from .moves import poses_of
from .smooth import locate, through_points

#: Columns of a table of keyframes.
COLUMNS = ("frame", "x", "y", "z", "yaw", "pitch", "roll")


@dataclass(frozen=True)
class Keyframe:
    """The camera at a frame: its position and its angles in degrees."""

    frame: int
    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def __post_init__(self) -> None:
        values = (*self.position, self.yaw, self.pitch, self.roll)
        if self.frame < 0 or not all(math.isfinite(value) for value in values):
            raise InputError(
                f"The keyframe at frame {self.frame} has the values {values}; the frame must be 0 "
                "or more, and the values finite."
            )

    @classmethod
    def looking_at(
        cls,
        frame: int,
        position: tuple[float, float, float],
        point: tuple[float, float, float],
        *,
        roll: float = 0.0,
    ) -> Keyframe:
        """The camera at `position`, with `point` in the centre of its image."""
        x, y, z = (there - here for there, here in zip(point, position, strict=True))
        if x == y == z == 0:
            raise InputError(
                f"The camera at {position} cannot look at its own position. Choose another point."
            )
        yaw, pitch = math.atan2(x, z), math.atan2(-y, math.hypot(x, z))
        return cls(frame, position, math.degrees(yaw), math.degrees(pitch), roll)


def keyframe_path(
    keyframes: Sequence[Keyframe],
    *,
    frames: int | None = None,
    intrinsics: Intrinsics | None = None,
) -> CameraPath:
    """A path through all keyframes at their frames, with `frames` poses (default: to the last).

    Positions follow a Catmull-Rom curve; rotations are interpolated by slerp, the short way. Before
    the first and after the last keyframe, the camera does not move.
    """
    keyframes = sorted(keyframes, key=lambda keyframe: keyframe.frame)
    numbers = [keyframe.frame for keyframe in keyframes]
    if not keyframes or len(set(numbers)) != len(numbers):
        raise InputError(
            f"The keyframes are at frames {numbers}; there must be at least one, and no two at the "
            "same frame."
        )
    frames = numbers[-1] + 1 if frames is None else frames
    if numbers[-1] >= frames:
        raise InputError(
            f"The last keyframe is at frame {numbers[-1]}, but the path has "
            f"{counted(frames, 'frame')}, 0 to {frames - 1}. Make it longer or move the keyframe."
        )
    times, at = (torch.tensor(v, dtype=torch.float64) for v in (numbers, list(range(frames))))
    where = torch.tensor([keyframe.position for keyframe in keyframes], dtype=torch.float64)
    turned = torch.stack([_quaternion(keyframe) for keyframe in keyframes])
    poses = poses_of(through_points(times, where, at), _matrices(_slerp(times, turned, at)))
    return CameraPath(poses, (intrinsics or Intrinsics(),) * frames)


def keyframes_from_text(text: str) -> tuple[Keyframe, ...]:
    """Parse a table of keyframes, one per line: frame, x, y, z and optionally yaw, pitch, roll.

    Values are separated by commas, semicolons or spaces. Comments (#) and a header line are
    ignored.
    """
    keyframes = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not words or words[0].lower() == COLUMNS[0]:
            continue
        try:
            frame, *values = [int(words[0]), *(float(word) for word in words[1:])]
        except ValueError as error:
            raise InputError(
                f"Line {number} of the keyframes is {line.strip()!r}: {error}. It needs "
                f"{', '.join(COLUMNS)}, with a whole number for the frame."
            ) from error
        if len(values) not in (3, 6):
            raise InputError(
                f"Line {number} of the keyframes has {counted(len(words), 'number')}; it needs 7 "
                f"({', '.join(COLUMNS)}), or only the first 4."
            )
        x, y, z, *angles = values
        keyframes.append(Keyframe(int(frame), (x, y, z), *angles))
    if not keyframes:
        raise InputError(
            f"There are no keyframes; at least one line is needed: {', '.join(COLUMNS)}."
        )
    return tuple(keyframes)


def _quaternion(keyframe: Keyframe) -> Tensor:
    """The camera-to-world rotation as (w, x, y, z): first roll, then pitch, then yaw."""
    angles = (keyframe.yaw, keyframe.pitch, keyframe.roll)
    halves = [math.radians(angle) / 2 for angle in angles]
    (cos_y, cos_p, cos_r), (sin_y, sin_p, sin_r) = (
        [of(half) for half in halves] for of in (math.cos, math.sin)
    )
    return torch.tensor(
        [
            cos_y * cos_p * cos_r + sin_y * sin_p * sin_r,
            cos_y * sin_p * cos_r + sin_y * cos_p * sin_r,
            sin_y * cos_p * cos_r - cos_y * sin_p * sin_r,
            cos_y * cos_p * sin_r - sin_y * sin_p * cos_r,
        ],
        dtype=torch.float64,
    )


def _slerp(times: Tensor, quaternions: Tensor, at: Tensor) -> Tensor:
    """Unit quaternions [M, 4], interpolated along the shortest arcs between those at `times`."""
    if len(times) == 1:
        return quaternions.expand(len(at), -1)
    part, share = locate(times, at.clamp(times[0], times[-1]))
    start, end = quaternions[part], quaternions[part + 1]
    cosine = (start * end).sum(-1, keepdim=True)
    end = torch.where(cosine < 0, -end, end)
    angle = torch.acos(cosine.abs().clamp(max=1))
    share = share[:, None]
    near = angle < 1e-6  # interpolate linearly: the sine is too small to divide by
    sine = torch.where(near, torch.ones_like(angle), torch.sin(angle))
    first = torch.where(near, 1 - share, torch.sin((1 - share) * angle) / sine)
    second = torch.where(near, share, torch.sin(share * angle) / sine)
    mixed = first * start + second * end
    return mixed / mixed.norm(dim=-1, keepdim=True)


def _matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices [M, 3, 3] of unit quaternions (w, x, y, z)."""
    w, x, y, z = quaternions.unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).reshape(-1, 3, 3)  # fmt: skip
