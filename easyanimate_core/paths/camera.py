"""Camera paths for the Control-Camera head: named moves, CameraCtrl files, Pluecker embeddings.

A pose is a 3 x 4 world-to-camera matrix [R | t]. The moves, their strength, the file format and the
embedding are those of aigc-apps/EasyAnimate, comfyui/utils.py and
easyanimate/data/dataset_image_video.py, which follow CameraCtrl (He et al., arXiv 2404.02101).

Shape letters: F frames, H and W pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import EasyAnimateError, InputError, MediaError, counted, there_are
from ..files import atomic_file, listed, number, read_text, short

_TRANSLATION = 1.5  # length of a pan over the whole path, at speed 1
_ROLL = math.pi / 3  # angle of a roll over the whole path, at speed 1

# Name -> (roll, translation x, y, z), in units of the two constants. +y is down in the image:
# when the camera pans up, the content moves down. A zoom goes twice as far as a pan.
_MOVES: dict[str, tuple[float, float, float, float]] = {
    "Static": (0, 0, 0, 0),
    "Pan Up": (0, 0, 1, 0),
    "Pan Down": (0, 0, -1, 0),
    "Pan Left": (0, 1, 0, 0),
    "Pan Right": (0, -1, 0, 0),
    "Zoom In": (0, 0, 0, -2),
    "Zoom Out": (0, 0, 0, 2),
    "ACW": (1, 0, 0, 0),
    "CW": (-1, 0, 0, 0),
}

#: Known camera moves. ACW and CW roll the camera anticlockwise and clockwise.
CAMERA_MOVES: tuple[str, ...] = tuple(_MOVES)

# Fraction of the time -> fraction of the move, both 0 to 1.
_EASINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda time: time,
    "ease in": lambda time: time**2,
    "ease out": lambda time: 1 - (1 - time) ** 2,
    "ease in-out": lambda time: time**2 * (3 - 2 * time),
}

#: Known easings: how a move starts and ends.
EASINGS: tuple[str, ...] = tuple(_EASINGS)

#: Default size (height, width) of the image that the intrinsics belong to.
ORIGINAL_SIZE = (720, 1280)

_ROW_LENGTH = 19
_ROW = listed(number(-1e30, 1e30), _ROW_LENGTH, _ROW_LENGTH)


@dataclass(frozen=True)
class Intrinsics:
    """Focal lengths and principal point as fractions of the original image's width and height."""

    fx: float = 0.532139961
    fy: float = 0.946026558
    cx: float = 0.5
    cy: float = 0.5

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(value) for value in values) or min(self.fx, self.fy) <= 0:
            raise InputError(
                f"fx, fy, cx, cy are {values}; they must be finite and the focal lengths positive."
            )

    @classmethod
    def of_view(cls, degrees: float, *, height: int, width: int) -> Intrinsics:
        """Intrinsics with square pixels and a horizontal field of view of `degrees`.

        `plucker_embedding` scales and crops the original image; these intrinsics give this field of
        view after the crop to the aspect ratio of `height` x `width`.
        """
        if not 1 <= degrees <= 170:
            raise InputError(f"The field of view is {degrees} degrees; it must be 1 to 170.")
        across, down = _covered(height, width, ORIGINAL_SIZE)
        focal = width / 2 / math.tan(math.radians(degrees) / 2)
        return cls(fx=focal / across, fy=focal / down)


@dataclass(frozen=True)
class CameraPath:
    """`world_to_camera` [F, 3, 4] float64, and the intrinsics of each of the F frames."""

    world_to_camera: Tensor
    intrinsics: tuple[Intrinsics, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.world_to_camera.shape)
        if len(shape) != 3 or shape[0] < 1 or shape[1:] != (3, 4):
            raise InputError(f"The camera poses have the shape {shape}; it must be [frames, 3, 4].")
        if not bool(torch.isfinite(self.world_to_camera).all()):
            raise InputError("The camera poses contain NaN or infinity.")
        if len(self.intrinsics) != shape[0]:
            raise InputError(
                f"{there_are(len(self.intrinsics), 'intrinsic').capitalize()} for "
                f"{counted(shape[0], 'pose')}; give one per pose."
            )
        object.__setattr__(self, "world_to_camera", self.world_to_camera.to(torch.float64))

    def __len__(self) -> int:
        return len(self.intrinsics)

    def first(self, frames: int) -> CameraPath:
        """The first `frames` poses; raises `InputError` if the path has fewer."""
        return self.part(0, frames)

    def part(self, start: int, frames: int) -> CameraPath:
        """`frames` poses from number `start` on; raises `InputError` if the path has fewer."""
        if frames < 1 or not 0 <= start <= len(self) - frames:
            wanted = f"{frames} from number {start} on" if start else f"{frames}"
            raise InputError(
                f"The camera path has {counted(len(self), 'pose')}; {wanted} were requested. "
                f"Use {_up_to(max(1, len(self) - start))}, or a longer path."
            )
        part = slice(start, start + frames)
        return CameraPath(self.world_to_camera[part], self.intrinsics[part])


def camera_path(
    moves: Sequence[str],
    *,
    frames: int,
    speed: float = 1.0,
    easing: str = "linear",
    exact: bool = False,
    intrinsics: Intrinsics | None = None,
) -> CameraPath:
    """`frames` poses of one move, or of several at once, whose strengths add up.

    The first pose is the identity. With `exact`, the move ends at the last pose; otherwise, as in
    the original, it would end one pose later. `speed` scales the move; a negative one reverses it.
    """
    if isinstance(moves, str):
        moves = [moves]
    unknown = [move for move in moves if move not in _MOVES]
    if unknown or not moves:
        raise InputError(
            f"The camera moves are {list(moves)!r}; they must be one or more of "
            f"{', '.join(_MOVES)}."
        )
    total = torch.tensor([_MOVES[move] for move in moves], dtype=torch.float64).sum(0)
    progress = move_progress(frames, speed=speed, easing=easing, exact=exact)
    angle = progress * _ROLL * total[0]
    poses = torch.zeros(frames, 3, 4, dtype=torch.float64)
    poses[:, 0, 0] = poses[:, 1, 1] = torch.cos(angle)
    poses[:, 1, 0] = torch.sin(angle)
    poses[:, 0, 1] = -torch.sin(angle)
    poses[:, 2, 2] = 1
    poses[:, :, 3] = progress[:, None] * _TRANSLATION * total[1:]
    return CameraPath(poses, (intrinsics or Intrinsics(),) * frames)


def move_progress(frames: int, *, speed: float, easing: str, exact: bool) -> Tensor:
    """Fraction of the move completed at each of `frames` poses, times `speed`: [F] float64.

    At the last pose it is 1 with `exact`, and (frames - 1) / frames with the original's timing.
    """
    if frames < 1:
        raise InputError(f"frames is {frames}; a camera path has at least 1 pose.")
    if not math.isfinite(speed):
        raise InputError(f"speed is {speed}; it must be a finite number (1 is usual).")
    if easing not in _EASINGS:
        raise InputError(f"The easing is {easing!r}; it must be one of {', '.join(EASINGS)}.")
    whole = max(frames - 1, 1) if exact else frames
    time = torch.arange(frames, dtype=torch.float64) / whole
    return _EASINGS[easing](time) * speed


def join_paths(first: CameraPath, second: CameraPath) -> CameraPath:
    """`first` followed by `second`, which starts where `first` ends. Neither is modified.

    A path from `camera_path` starts with the identity, so the pose at the joint occurs twice.
    """
    rotation, translation = first.world_to_camera[-1].split([3, 1], dim=1)  # [3, 3], [3, 1]
    rotations, translations = second.world_to_camera.split([3, 1], dim=2)
    continued = torch.cat([rotations @ rotation, rotations @ translation + translations], dim=2)
    poses = torch.cat([first.world_to_camera, continued])
    return CameraPath(poses, first.intrinsics + second.intrinsics)


def camera_path_from_rows(rows: Sequence[Sequence[float]] | Tensor) -> CameraPath:
    """A path from rows of 19 numbers: time, fx, fy, cx, cy, 0, 0 and the 3 x 4 pose (row-major)."""
    values = rows.tolist() if isinstance(rows, Tensor) else rows
    if not isinstance(values, Sequence) or not len(values):
        raise InputError("There are no camera poses; at least 1 is needed.")
    for index, row in enumerate(values):
        if not _ROW.allows(row):
            count = counted(len(row), "number") if isinstance(row, list | tuple) else "no numbers"
            raise InputError(
                f"Camera pose {index} has {count}; it needs {_ROW_LENGTH} finite ones: time, fx, "
                "fy, cx, cy, 0, 0 and the 12 of the world-to-camera matrix."
            )
    table = torch.tensor(values, dtype=torch.float64)
    return CameraPath(
        table[:, 7:].reshape(-1, 3, 4),
        tuple(Intrinsics(*row) for row in table[:, 1:5].tolist()),
    )


def from_cameractrl_text(text: str) -> CameraPath:
    """Parse a CameraCtrl / RealEstate10K file: a header line, then one line per pose.

    The header (a video's URL, or empty) is skipped. Errors name the line.
    """
    rows = []
    for place, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if place == 1:
            if len(words) == _ROW_LENGTH:
                raise InputError(
                    "Line 1 is a camera pose, but the format has a header line there. Insert an "
                    "empty line or the video's URL before it."
                )
            continue
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            wrong = next(word for word in words if not _is_number(word))
            raise InputError(
                f"Line {place} of the camera file contains {short(wrong)}, which is not a number."
            ) from None
        if len(row) != _ROW_LENGTH or not all(math.isfinite(value) for value in row):
            raise InputError(
                f"Line {place} of the camera file has {counted(len(row), 'number')}; it needs "
                f"{_ROW_LENGTH} finite ones: time, fx, fy, cx, cy, 0, 0 and a 3 x 4 matrix."
            )
        rows.append(row)
    if not rows:
        raise InputError("The camera file has no poses after its header line.")
    return camera_path_from_rows(rows)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def to_cameractrl_text(path: CameraPath) -> str:
    """Format a path as a CameraCtrl file, with an empty header and frame numbers as times."""
    lines = [""]
    for index, (pose, lens) in enumerate(zip(path.world_to_camera, path.intrinsics, strict=True)):
        row = [lens.fx, lens.fy, lens.cx, lens.cy, 0.0, 0.0, *pose.flatten().tolist()]
        lines.append(" ".join([str(index), *(f"{value:.9f}" for value in row)]))
    return "\n".join(lines) + "\n"


def read_camera_file(file: str | os.PathLike[str]) -> CameraPath:
    """Read a CameraCtrl file; `MediaError` if it is unreadable, `InputError` if malformed."""
    text = read_text(file, error=MediaError)
    try:
        return from_cameractrl_text(text)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def is_camera_file(file: Path) -> bool:
    """Whether a file contains a camera path."""
    try:
        read_camera_file(file)
    except EasyAnimateError:
        return False
    return True


def write_camera_file(file: str | os.PathLike[str], path: CameraPath) -> Path:
    """Write the path as a CameraCtrl file, completely or not at all; returns the file's path."""
    with atomic_file(file) as temporary:
        temporary.write_text(to_cameractrl_text(path), encoding="utf-8", newline="\n")
    return Path(file)


def plucker_embedding(
    path: CameraPath, height: int, width: int, *, original_size: tuple[int, int] = ORIGINAL_SIZE
) -> Tensor:
    """The ray of every pixel, [F, H, W, 6] float32: moment (origin x direction), then direction.

    Rays are in the first camera's coordinates. `original_size` (height, width) is the size of the
    image that the intrinsics belong to; it is scaled to cover `height` x `width`, so one side may
    be cropped.
    """
    focal, centre = pixel_lenses(path, height, width, original_size=original_size)  # [F, 2]
    rows = torch.arange(height, dtype=torch.float64) + 0.5
    columns = torch.arange(width, dtype=torch.float64) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # [H, W, 2]
    offsets = (pixels - centre[:, None, None]) / focal[:, None, None]  # [F, H, W, 2]
    rays = torch.cat([offsets, torch.ones_like(offsets[..., :1])], dim=-1)
    rays = rays / rays.norm(dim=-1, keepdim=True)

    to_first = _camera_to_first_camera(path)
    direction = torch.einsum("fij,fhwj->fhwi", to_first[:, :3, :3], rays)
    origin = to_first[:, None, None, :3, 3].expand_as(direction)
    moment = torch.linalg.cross(origin, direction)
    return torch.cat([moment, direction], dim=-1).to(torch.float32)


def pixel_lenses(
    path: CameraPath, height: int, width: int, *, original_size: tuple[int, int] = ORIGINAL_SIZE
) -> tuple[Tensor, Tensor]:
    """Focal lengths and principal points (x, y) in pixels of `height` x `width`, [F, 2] float64.

    For `original_size`, see `plucker_embedding`.
    """
    covered = torch.tensor(_covered(height, width, original_size))
    lenses = torch.tensor([(k.fx, k.fy, k.cx, k.cy) for k in path.intrinsics], dtype=torch.float64)
    return lenses[:, :2] * covered, lenses[:, 2:] * torch.tensor([width, height])


def _covered(height: int, width: int, original_size: tuple[int, int]) -> tuple[float, float]:
    """Width and height of the original image after scaling it to cover `height` x `width`."""
    if min(height, width, *original_size) < 1:
        raise InputError(
            f"The size is {height} x {width} and the original size {original_size}; all sides must "
            "be positive."
        )
    aspect = original_size[1] / original_size[0]
    return max(width, height * aspect), max(height, width / aspect)


def _camera_to_first_camera(path: CameraPath) -> Tensor:
    """Transformations from each camera's coordinates to the first camera's, [F, 4, 4] float64."""
    poses = torch.eye(4, dtype=torch.float64).repeat(len(path), 1, 1)
    poses[:, :3] = path.world_to_camera
    if bool((torch.linalg.det(poses[:, :3, :3]).abs() < 1e-6).any()):
        raise InputError(
            "A camera pose has no inverse; the first three columns must be a rotation. Correct the "
            "pose."
        )
    return poses[0] @ torch.linalg.inv(poses)


def _up_to(frames: int) -> str:
    return "1 frame" if frames == 1 else f"1 to {frames} frames"
