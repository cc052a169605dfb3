"""Control videos from any clip."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.preprocess import KINDS, Detection, Kind, Option
from . import inputs
from .bridge import notes
from .bridge.detect import detect

CATEGORY = "EasyAnimate/conditioning"


class PreprocessNode(io.ComfyNode):
    """Edges, lines, poses or depth of a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimatePreprocess",
            display_name="EasyAnimate Control Video",
            category=CATEGORY,
            description="Makes a control video of any clip: edges, lines, poses or depth. For "
            "EasyAnimate Control.",
            inputs=[
                io.Image.Input("image", tooltip="The frames of the clip, or a picture."),
                io.DynamicCombo.Input(
                    "kind",
                    options=[
                        io.DynamicCombo.Option(kind.name, _options(kind)) for kind in KINDS.values()
                    ],
                    tooltip="What is drawn. canny and scribble_xdog need no weights; the others "
                    "say which file they need and where to put it.",
                ),
                io.Int.Input(
                    "resolution",
                    default=512,
                    min=64,
                    max=4096,
                    step=64,
                    tooltip="Short side of the picture that the detector sees. More finds finer "
                    "things and takes longer; the result has the size of the clip.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="control_video", tooltip="As many frames, of the same size."
                ),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, image: Any, kind: dict[str, Any], resolution: int) -> io.NodeOutput:
        options = {name: value for name, value in kind.items() if name != "kind"}
        detection = Detection(kind["kind"], resolution, options)
        frames = detect(image, detection)
        report = _report(detection, frames)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(frames, report)


def _options(kind: Kind) -> list[io.Input]:
    """The widgets of a kind's options."""
    return [_widget(option) for option in kind.options]


def _widget(option: Option) -> io.Input:
    shared = {"default": option.default, "tooltip": option.meaning}
    if isinstance(option.default, bool):
        socket, limits = io.Boolean, {}
    elif isinstance(option.default, str):
        socket, limits = io.Combo, {"options": list(option.choices)}
    else:
        whole = isinstance(option.default, int)
        kind = int if whole else float
        socket = io.Int if whole else io.Float
        limits = {"min": kind(option.low), "max": kind(option.high), "step": kind(option.step)}
        limits |= {} if whole else {"round": option.step}
    make = socket.Input
    return make(option.name, **shared, **limits)


def _report(detection: Detection, frames: Any) -> str:
    options = ", ".join(f"{name} {value}" for name, value in detection.options.items())
    size = f"{frames.shape[2]} x {frames.shape[1]}"
    return (
        f"{detection.facts.display_name} of {len(frames)} frames, {size}, found at "
        f"{detection.resolution}. {options}"
    ).strip()


NODES = (PreprocessNode,)
