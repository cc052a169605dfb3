"""Camera, trajectory and image nodes under the ids of the original pack; see `original`."""

from __future__ import annotations

import json
from typing import Any

import torch
from comfy_api.latest import io

from ..easyanimate_core.paths.camera import (
    CAMERA_MOVES,
    CameraPath,
    Intrinsics,
    camera_path,
    join_paths,
)
from ..easyanimate_core.paths.trajectory import heatmap_frames, resample, tracks_from_json
from .original import CATEGORY

#: Arrays [F, 3, 4], as in other packs that have these nodes.
POSES = io.Custom("CameraPose")
_MOVE = {
    "options": list(CAMERA_MOVES),
    "default": "Static",
    "tooltip": "How the camera moves. Moves at the same time add up.",
}


class CreateTrajectory(io.ComfyNode):
    """The original's drawing of tracks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CreateTrajectoryBasedOnKJNodes",
            display_name="Create Trajectory Based On KJNodes",
            category=CATEGORY,
            description="Of the original pack: draws tracks as a control video. New workflows use "
            "EasyAnimate Trajectory.",
            is_deprecated=True,
            inputs=[
                io.String.Input(
                    "coordinates",
                    force_input=True,
                    tooltip="Tracks from KJNodes' Spline Editor, one or a list of them. A point "
                    "per frame; a shorter track is spread over the frames of the longest.",
                ),
                io.Mask.Input("masks", tooltip="Its size is the size of the frames."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The control video.")],
        )

    @classmethod
    def execute(cls, coordinates: Any, masks: Any) -> io.NodeOutput:
        tracks = tracks_from_json(coordinates)
        frames = max(len(track.points) for track in tracks)
        even = [t if len(t.points) == frames else resample(t, frames) for t in tracks]
        height, width = masks.shape[-2:]
        return io.NodeOutput(heatmap_frames(even, height=height, width=width))


class ImageMaximum(io.ComfyNode):
    """The original's overlay of a trajectory on a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageMaximumNode",
            display_name="ImageMaximumNode",
            category=CATEGORY,
            description="Of the original pack: the brighter of two videos, pixel by pixel.",
            is_deprecated=True,
            inputs=[
                io.Image.Input("video_1", tooltip="A video, whose size the result has."),
                io.Image.Input("video_2", tooltip="Another, scaled to that size."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="As many frames as the shorter.")
            ],
        )

    @classmethod
    def execute(cls, video_1: Any, video_2: Any) -> io.NodeOutput:
        frames = min(len(video_1), len(video_2))
        first, second = video_1[:frames], video_2[:frames].to(video_1)
        if first.shape[1:3] != second.shape[1:3]:
            scaled = torch.nn.functional.interpolate(second.movedim(-1, 1), first.shape[1:3])
            second = scaled.movedim(1, -1)
        return io.NodeOutput(torch.maximum(first, second))


class CameraBasic(io.ComfyNode):
    """The original's camera move."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CameraBasicFromChaoJie",
            display_name="CameraBasicFromChaoJie",
            category=CATEGORY,
            description="Of the original pack; new workflows use EasyAnimate Camera Move.",
            is_deprecated=True,
            inputs=[io.Combo.Input("camera_pose", **_MOVE), *_motion_widgets()],
            outputs=[_poses_output()],
        )

    @classmethod
    def execute(cls, camera_pose: str, speed: float, video_length: int) -> io.NodeOutput:
        path = camera_path([camera_pose], frames=video_length, speed=speed)
        return io.NodeOutput(path.world_to_camera.numpy())


class CameraCombine(io.ComfyNode):
    """The original's sum of camera moves."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CameraCombineFromChaoJie",
            display_name="CameraCombineFromChaoJie",
            category=CATEGORY,
            description="Of the original pack: up to four moves at once. New workflows use "
            "EasyAnimate Camera Move.",
            is_deprecated=True,
            inputs=[
                io.Combo.Input("camera_pose1", **_MOVE),
                io.Combo.Input("camera_pose2", **_MOVE),
                io.Combo.Input("camera_pose3", **_MOVE),
                io.Combo.Input("camera_pose4", **_MOVE),
                *_motion_widgets(),
            ],
            outputs=[_poses_output()],
        )

    @classmethod
    def execute(cls, speed: float, video_length: int, **moves: str) -> io.NodeOutput:
        path = camera_path(list(moves.values()), frames=video_length, speed=speed)
        return io.NodeOutput(path.world_to_camera.numpy())


class CameraJoin(io.ComfyNode):
    """The original's sequence of camera paths."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CameraJoinFromChaoJie",
            display_name="CameraJoinFromChaoJie",
            category=CATEGORY,
            description="Of the original pack: one path after the other. New workflows use "
            "EasyAnimate Camera Move.",
            is_deprecated=True,
            inputs=[
                POSES.Input("camera_pose1", tooltip="The first path."),
                POSES.Input("camera_pose2", tooltip="The path that follows."),
            ],
            outputs=[_poses_output()],
        )

    @classmethod
    def execute(cls, camera_pose1: Any, camera_pose2: Any) -> io.NodeOutput:
        path = join_paths(_path_of(camera_pose1), _path_of(camera_pose2))
        return io.NodeOutput(path.world_to_camera.numpy())


class CameraTrajectory(io.ComfyNode):
    """The original's text of a camera path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        centre = {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}
        focal = {"min": 0.0, "max": 1.0, "step": 1e-9, "round": 1e-9}
        return io.Schema(
            node_id="CameraTrajectoryFromChaoJie",
            display_name="CameraTrajectoryFromChaoJie",
            category=CATEGORY,
            description="Of the original pack: a camera path as text, for camera_conditions.",
            is_deprecated=True,
            inputs=[
                POSES.Input("camera_pose", tooltip="A path of the other camera nodes."),
                io.Float.Input("fx", default=0.474812461, tooltip=_focal_tip("width"), **focal),
                io.Float.Input("fy", default=0.844111024, tooltip=_focal_tip("height"), **focal),
                io.Float.Input("cx", tooltip="Centre of the image across.", **centre),
                io.Float.Input("cy", tooltip="Centre of the image down.", **centre),
            ],
            outputs=[
                io.String.Output(display_name="camera_trajectory", tooltip="The path as text."),
                io.Int.Output(display_name="video_length", tooltip="The number of poses."),
            ],
        )

    @classmethod
    def execute(cls, camera_pose: Any, fx: float, fy: float, cx: float, cy: float) -> io.NodeOutput:
        path = _path_of(camera_pose)
        Intrinsics(fx, fy, cx, cy)
        poses = path.world_to_camera.flatten(1).tolist()
        rows = [[fx, fy, cx, cy, 0, 0, *pose] for pose in poses]
        return io.NodeOutput(json.dumps(rows), len(rows))


def _path_of(poses: Any) -> CameraPath:
    """A camera path from the array [F, 3, 4] of a CameraPose socket."""
    return CameraPath(torch.as_tensor(poses), (Intrinsics(),) * len(poses))


def _motion_widgets() -> list[io.Input]:
    return [
        io.Float.Input(
            "speed",
            default=1.0,
            min=-100.0,
            max=100.0,
            step=0.01,
            round=0.001,
            tooltip="How far the move goes.",
        ),
        io.Int.Input("video_length", default=16, min=1, max=4096, tooltip="Number of poses."),
    ]


def _poses_output() -> io.Output:
    return POSES.Output(display_name="CameraPose", tooltip="For the original's camera nodes.")


def _focal_tip(side: str) -> str:
    return f"Focal length as a fraction of the image's {side}."


NODES = (
    CreateTrajectory,
    ImageMaximum,
    CameraBasic,
    CameraCombine,
    CameraJoin,
    CameraTrajectory,
)
