"""Control videos from any clip."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.errors import InputError, counted
from ..easyanimate_core.preprocess import KINDS, Detection, Kind, Option, fit_for
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
            description="Makes a control video from any clip: edges, lines, poses or depth. For "
            "EasyAnimate Control.",
            inputs=[
                io.Image.Input("image", tooltip="The frames of the clip, or an image."),
                io.DynamicCombo.Input(
                    "kind",
                    options=[
                        io.DynamicCombo.Option(kind.name, _options(kind)) for kind in KINDS.values()
                    ],
                    tooltip="What to draw. canny and scribble_xdog need no weights; the others "
                    "report which file they need and where to put it.",
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=4096,
                    step=64,
                    tooltip="Short side of the detector's input. 0 chooses by kind: lines are "
                    "detected at the size of the result, people and depth at 512.",
                ),
                *inputs.drawn_size_widgets(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="control_video",
                    tooltip="The control video, with as many frames as the clip.",
                ),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, image: Any, kind: dict[str, Any], resolution: int, width: int = 0, height: int = 0
    ) -> io.NodeOutput:
        options = {name: value for name, value in kind.items() if name != "kind"}
        detection = Detection(kind["kind"], resolution or None, options)
        source = (image.shape[1], image.shape[2])
        size = _size(source, width, height)
        frames = detect(image, detection, size)
        report = _report(detection, frames, fit_for(detection, source, size).scaled)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(frames, report)


def _size(source: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """(height, width) of the result."""
    if bool(width) != bool(height):
        raise InputError(
            f"width is {width} and height is {height}; set both, or 0 for both to keep the clip's "
            "size."
        )
    return (height, width) if width else source


def _options(kind: Kind) -> list[io.Input]:
    """The widgets for a kind's options."""
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


def _report(detection: Detection, frames: Any, seen: tuple[int, int]) -> str:
    options = ", ".join(f"{name} {value}" for name, value in detection.options.items())
    size = f"{frames.shape[2]} x {frames.shape[1]}"
    return (
        f"{detection.facts.display_name} of {counted(len(frames), 'frame')}, {size}, found at "
        f"{seen[1]} x {seen[0]}. {options}"
    ).strip()


NODES = (PreprocessNode,)
