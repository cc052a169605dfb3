"""Camera paths from moves, keyframes and files, each with a preview."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.errors import InputError
from ..easyanimate_core.paths.camera import (
    EASINGS,
    from_cameractrl_text,
    to_cameractrl_text,
)
from ..easyanimate_core.paths.keyframes import keyframe_path, keyframes_from_text
from ..easyanimate_core.paths.moves import (
    ORBIT_DISTANCE,
    PRESETS,
    combine_paths,
    continue_path,
    preset_path,
)
from ..easyanimate_core.paths.previews import camera_preview
from . import inputs

CATEGORY = "EasyAnimate/conditioning"
MODES = ("join", "combine")

_KEYFRAMES = """\
0, 0, 0, 0, 0, 0, 0
24, 1, 0, 1, -20, 0, 0
48, 1.5, -0.5, 2.5, -35, -5, 0
"""


class CameraMoveNode(io.ComfyNode):
    """A camera path from a move."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateCameraMove",
            display_name="EasyAnimate Camera Move",
            category=CATEGORY,
            description="Makes a camera path from a move, on its own or joined or combined with "
            "another path.",
            inputs=[
                io.Combo.Input(
                    "move",
                    options=list(PRESETS),
                    default="Zoom In",
                    tooltip="How the camera moves. Pan and Zoom move it sideways and forward, Turn "
                    "and Tilt turn it, ACW and CW roll it, Orbit goes around a point, Lens changes "
                    "the focal length.",
                ),
                io.Float.Input(
                    "speed",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How far the move goes: 0.5 is half as far, negative values go the "
                    "opposite way.",
                ),
                io.Combo.Input(
                    "easing",
                    options=list(EASINGS),
                    default=EASINGS[0],
                    tooltip="How the move starts and ends: at constant speed, or slowly.",
                ),
                inputs.path_length_widget(),
                io.Float.Input(
                    "orbit_distance",
                    default=ORBIT_DISTANCE,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    round=0.001,
                    tooltip="Distance of the point that an Orbit goes around. For comparison, a "
                    "Pan moves by 1.5.",
                ),
                io.Boolean.Input(
                    "original_timing",
                    default=False,
                    tooltip="On: the move stops one step short of its end, as in the original. "
                    "Off: the last frame reaches the end.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip="With camera_path: join appends the move to it, combine does both at "
                    "the same time.",
                ),
                inputs.camera_path_socket("A path to append the move to or combine it with."),
            ],
            outputs=inputs.path_outputs(),
        )

    @classmethod
    def execute(
        cls,
        move: str,
        speed: float,
        easing: str,
        length: int,
        orbit_distance: float,
        original_timing: bool,
        mode: str,
        camera_path: Any = None,
    ) -> io.NodeOutput:
        path = preset_path(
            move,
            frames=length,
            speed=speed,
            easing=easing,
            exact=not original_timing,
            distance=orbit_distance,
        )
        if camera_path is not None:
            together = combine_paths if mode == MODES[1] else continue_path
            path = together(camera_path, path)
        return io.NodeOutput(path, camera_preview(path))


class CameraKeyframesNode(io.ComfyNode):
    """A camera path through keyframes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateCameraKeyframes",
            display_name="EasyAnimate Camera Keyframes",
            category=CATEGORY,
            description="Makes a camera path from keyframes: positions and directions at given "
            "frames.",
            inputs=[
                io.String.Input(
                    "keyframes",
                    default=_KEYFRAMES,
                    multiline=True,
                    tooltip="One line per keyframe: frame, x, y, z, yaw, pitch, roll. +x is right, "
                    "+y down, +z forward; angles are in degrees, to the right, up and with the "
                    "clock.",
                ),
                inputs.path_length_widget(),
            ],
            outputs=inputs.path_outputs(),
        )

    @classmethod
    def execute(cls, keyframes: str, length: int) -> io.NodeOutput:
        path = keyframe_path(keyframes_from_text(keyframes), frames=length)
        return io.NodeOutput(path, camera_preview(path))


class CameraFileNode(io.ComfyNode):
    """A camera path from text, and any path as text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateCameraFile",
            display_name="EasyAnimate Camera File",
            category=CATEGORY,
            description="Reads a camera path from CameraCtrl text, or outputs a path as text.",
            inputs=[
                io.String.Input(
                    "poses",
                    default="",
                    multiline=True,
                    placeholder="CameraCtrl / RealEstate10K text, or a camera_path",
                    tooltip="Camera poses in CameraCtrl's text format: a header line, then one "
                    "line per frame. Leave empty with camera_path.",
                ),
                inputs.camera_path_socket("A path to output as text, instead of poses."),
            ],
            outputs=[
                *inputs.path_outputs(),
                io.String.Output(
                    display_name="poses",
                    tooltip="The path in CameraCtrl's text format, to save as a text file.",
                ),
            ],
        )

    @classmethod
    def execute(cls, poses: str, camera_path: Any = None) -> io.NodeOutput:
        if bool(poses.strip()) == (camera_path is not None):
            raise InputError(
                "A camera file takes either poses or a camera_path, not both: clear poses, or "
                "remove the link."
            )
        path = camera_path if camera_path is not None else from_cameractrl_text(poses)
        return io.NodeOutput(path, camera_preview(path), to_cameractrl_text(path))


NODES = (CameraMoveNode, CameraKeyframesNode, CameraFileNode)
