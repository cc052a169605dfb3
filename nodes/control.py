"""Conditioning for Control and Control-Camera models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.conditioning.condition import Sources
from ..easyanimate_core.conditioning.encode import from_model_range
from ..easyanimate_core.errors import InputError
from ..easyanimate_core.media import Clip
from ..easyanimate_core.paths.camera import CAMERA_MOVES, from_cameractrl_text
from ..easyanimate_core.paths.previews import camera_preview, track_preview
from ..easyanimate_core.paths.trajectory import Track, tracks_from_json
from ..easyanimate_core.tasks import Camera, Control, Target, Trajectory
from . import inputs
from .alignment import report_changes, strict_widget
from .bridge.encode import empty_latent, encode_camera, encode_control, latent_mask
from .bridge.shown import Act, attach

CATEGORY = "EasyAnimate/conditioning"
NO_MOVE = "none"


class ControlNode(io.ComfyNode):
    """Conditioning on a control video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateControl",
            display_name="EasyAnimate Control",
            category=CATEGORY,
            description="Conditions a Control model on a control video (poses, edges, depth, "
            "lines) and, for V5.1, a reference image. Several Control nodes can be chained.",
            inputs=[
                *inputs.text_sockets(),
                inputs.vae_socket(),
                io.Image.Input("control_video", tooltip="The frames of the control video."),
                *inputs.size_widgets(),
                inputs.batch_widget(),
                *_strength_widgets("the control video"),
                *inputs.clip_widgets("the control video"),
                inputs.reference_socket(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="1 where this control applies: one mask for all frames, or one per "
                    "frame of the result. Elsewhere an earlier control applies, if any.",
                ),
                strict_widget(),
            ],
            outputs=[*inputs.conditioning_outputs(), inputs.report_output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        vae: Any,
        control_video: Any,
        width: int,
        height: int,
        length: int,
        batch_size: int,
        strength: float,
        start_percent: float,
        end_percent: float,
        source_fps: float,
        if_short: str,
        reference_image: Any = None,
        mask: Any = None,
        strict: bool = False,
    ) -> io.NodeOutput:
        target = inputs.target(width, height, length, if_short)
        act = Act(_window(start_percent, end_percent), latent_mask(mask, target))
        task = Control(Clip(control_video, source_fps), reference_image)
        sources = task.load().align(target)
        shown = encode_control(vae, sources, strength)
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        conditioning = attach(positive, shown, act), attach(negative, shown, act)
        return io.NodeOutput(*conditioning, empty_latent(target, batch_size), report)


class CameraNode(io.ComfyNode):
    """Conditioning on a camera path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateCamera",
            display_name="EasyAnimate Camera",
            category=CATEGORY,
            description="Conditions a Control-Camera model (V5.1) on a camera path and a reference "
            "image.",
            inputs=[
                *inputs.text_sockets(),
                inputs.vae_socket(),
                *inputs.size_widgets(),
                inputs.batch_widget(),
                *_move_widgets(),
                io.String.Input(
                    "poses",
                    default="",
                    multiline=True,
                    placeholder="CameraCtrl / RealEstate10K text, instead of the moves",
                    tooltip="Camera poses in CameraCtrl's text format: a header line, then one "
                    "line per frame. If given, the moves are ignored.",
                ),
                inputs.reference_socket(),
                inputs.camera_path_socket(
                    "A path from a camera path node, instead of moves and poses."
                ),
                io.Boolean.Input(
                    "original_timing",
                    default=True,
                    optional=True,
                    tooltip="On: the moves stop one step short of their end, as in the original. "
                    "Off: the last frame reaches it. Leave it on with poses or camera_path.",
                ),
                strict_widget(),
            ],
            outputs=[
                *inputs.conditioning_outputs(),
                inputs.report_output(),
                io.Image.Output(
                    display_name="preview",
                    tooltip="The camera path from above and from the side; green is the first "
                    "frame, red the last.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        vae: Any,
        width: int,
        height: int,
        length: int,
        batch_size: int,
        move: str,
        second_move: str,
        speed: float,
        poses: str,
        reference_image: Any = None,
        camera_path: Any = None,
        original_timing: bool = True,
        strict: bool = False,
    ) -> io.NodeOutput:
        target = inputs.target(width, height, length)
        given = _poses(poses, camera_path)
        moves = () if given else [name for name in (move, second_move) if name != NO_MOVE]
        loaded = Camera(moves, speed, given, reference_image, original_timing).load()
        sources = loaded.align(target)
        shown = encode_camera(vae, sources, target)
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        latent = empty_latent(target, batch_size)
        conditioning = attach(positive, shown), attach(negative, shown)
        preview = camera_preview(loaded.path(length))
        return io.NodeOutput(*conditioning, latent, report, preview)


class TrajectoryNode(io.ComfyNode):
    """Conditioning on tracks that objects follow."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateTrajectory",
            display_name="EasyAnimate Trajectory",
            category=CATEGORY,
            description="Conditions a Control model (V5.1) on tracks that objects follow, drawn as "
            "gaussian blobs, and a reference image.",
            inputs=[
                *inputs.text_sockets(),
                inputs.vae_socket(),
                *inputs.size_widgets(),
                inputs.batch_widget(),
                io.String.Input(
                    "tracks",
                    default='[{"x": 168, "y": 192}, {"x": 504, "y": 192}]',
                    multiline=True,
                    tooltip="One track or a list of tracks as JSON: points in pixels of the "
                    "result, spread evenly over the length or with times; optional splines, sizes "
                    "and hidden parts. KJNodes' spline editor outputs such a list.",
                ),
                *_strength_widgets("the tracks"),
                inputs.reference_socket(),
                strict_widget(),
            ],
            outputs=[
                *inputs.conditioning_outputs(),
                io.Image.Output(
                    display_name="preview", tooltip="The tracks as the model sees them."
                ),
                inputs.report_output(),
                io.Image.Output(
                    display_name="path_preview",
                    tooltip="The tracks over the reference image, or over black: discs at the "
                    "start, arrows at the end, a dot every eighth frame.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        vae: Any,
        width: int,
        height: int,
        length: int,
        batch_size: int,
        tracks: str,
        strength: float,
        start_percent: float,
        end_percent: float,
        reference_image: Any = None,
        strict: bool = False,
    ) -> io.NodeOutput:
        act = Act(_window(start_percent, end_percent))
        target = inputs.target(width, height, length)
        parsed = tracks_from_json(tracks)
        sources = Trajectory(parsed, reference_image).load().align(target)
        shown = encode_control(vae, sources, strength)
        preview = from_model_range(sources.control[0])
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        conditioning = attach(positive, shown, act), attach(negative, shown, act)
        latent = empty_latent(target, batch_size)
        ways = _ways(parsed, target, sources)
        return io.NodeOutput(*conditioning, latent, preview, report, ways)


def _move_widgets() -> list[io.Input]:
    return [
        io.Combo.Input(
            "move",
            options=list(CAMERA_MOVES),
            default="Zoom In",
            tooltip="How the camera moves. ACW and CW roll it anticlockwise and clockwise.",
        ),
        io.Combo.Input(
            "second_move",
            options=[NO_MOVE, *CAMERA_MOVES],
            default=NO_MOVE,
            tooltip="A second move at the same time, added to the first.",
        ),
        io.Float.Input(
            "speed",
            default=1.0,
            min=-10.0,
            max=10.0,
            step=0.05,
            round=0.001,
            tooltip="How far the moves go: 0.5 is half as far, negative values go the opposite "
            "way. Leave it at 1 with poses.",
        ),
    ]


def _poses(text: str, camera_path: Any) -> Any:
    """The path given as text or by a node, or None."""
    if text.strip() and camera_path is not None:
        raise InputError(
            "There are both poses and a camera_path, but only one can be used. Clear poses, or "
            "remove the link to camera_path."
        )
    return from_cameractrl_text(text) if text.strip() else camera_path


def _ways(tracks: Sequence[Track], target: Target, sources: Sources) -> Any:
    image = None if sources.reference is None else from_model_range(sources.reference[0])
    return track_preview(
        tracks, height=target.height, width=target.width, frames=target.frames, image=image
    )


def _strength_widgets(what: str) -> list[io.Input]:
    share = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}
    return [
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=2.0,
            step=0.05,
            round=0.001,
            tooltip=f"Weight of {what}; 1 is what the model was trained with.",
        ),
        io.Float.Input(
            "start_percent",
            default=0.0,
            tooltip=f"Fraction of the schedule at which {what} starts to apply.",
            **share,
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            tooltip=f"Fraction of the schedule at which {what} stops applying.",
            **share,
        ),
    ]


def _window(start: float, end: float) -> tuple[float, float]:
    if not 0 <= start < end <= 1:
        raise InputError(
            f"start_percent is {start} and end_percent is {end}; the start must be before the end, "
            "both between 0 and 1."
        )
    return start, end


NODES = (ControlNode, CameraNode, TrajectoryNode)
