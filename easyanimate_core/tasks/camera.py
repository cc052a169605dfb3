"""Camera: a video along a camera path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..conditioning.condition import Sources
from ..errors import InputError, counted
from ..media import Clip, Fit, Source
from ..models.geometry import floor_frames
from ..models.specs import Head
from ..paths.camera import CameraPath, camera_path, plucker_embedding, read_camera_file
from .loaded import DEFAULT_FRAMES, SizedByReference, Target, align_reference, load_reference
from .task import Task


@dataclass(frozen=True)
class Camera(Task):
    """A video along a camera path: named `moves` at a `speed`, or `poses` (a CameraCtrl file).

    With the original's timing, moves stop one step before their end; without `original_timing`,
    they end at the last frame.
    """

    moves: Sequence[str] = ()
    speed: float = 1.0
    poses: str | os.PathLike[str] | CameraPath | None = None
    reference: Source | Clip | None = None
    original_timing: bool = True
    mode: ClassVar[str] = "camera"
    heads: ClassVar[tuple[Head, ...]] = (Head.CAMERA,)

    def load(
        self,
        *,
        max_seconds: float | None = None,  # noqa: ARG002
        fit: Fit | None = None,  # noqa: ARG002
    ) -> LoadedCamera:
        """Read poses and reference."""
        if bool(self.moves) == (self.poses is not None):
            raise InputError("A camera needs either moves (such as 'Pan Up') or poses, not both.")
        if self.poses is not None and self.speed != 1:
            raise InputError(
                f"speed is {self.speed}; it scales moves, while poses are used unchanged. Leave it "
                "at 1."
            )
        if self.poses is not None and not self.original_timing:
            raise InputError(
                "The exact timing is for moves; poses are used unchanged. Leave the original's "
                "timing on."
            )
        poses = self.poses
        if poses is not None and not isinstance(poses, CameraPath):
            poses = read_camera_file(poses)
        reference = load_reference(self.reference)
        exact = not self.original_timing
        return LoadedCamera(reference, poses, self.moves, self.speed, exact)


@dataclass(frozen=True)
class LoadedCamera(SizedByReference):
    """The reference of a `Camera`, and its poses or moves."""

    poses: CameraPath | None
    moves: Sequence[str]
    speed: float
    exact: bool

    def default_frames(self, fps: float) -> int:
        """The number of poses, at most the trained length."""
        if self.poses is None:
            return super().default_frames(fps)
        return min(DEFAULT_FRAMES, floor_frames(len(self.poses)))

    def path(self, frames: int) -> CameraPath:
        """The camera path of a result with `frames` frames."""
        if self.poses is None:
            return camera_path(self.moves, frames=frames, speed=self.speed, exact=self.exact)
        return self.poses.first(frames)

    def align(self, target: Target) -> Sources:
        """Pluecker rays and reference."""
        notes: tuple[str, ...] = ()
        if self.poses is not None and len(self.poses) > target.frames:
            left = (
                f"the first {target.frames} are used."
                if target.frames > 1
                else "the first is used."
            )
            notes = (f"The camera path has {counted(len(self.poses), 'pose')}; {left}",)
        path = self.path(target.frames)
        reference, more = align_reference(self.reference, target)
        rays = plucker_embedding(path, target.height, target.width)
        return Sources(plucker=rays, reference=reference, notes=notes + more)
