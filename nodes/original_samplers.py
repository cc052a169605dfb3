"""Samplers under the ids of the original pack, which expand into the nodes of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..easyanimate_core.conditioning.condition import REFERENCE_NOISE
from ..easyanimate_core.errors import InputError
from ..easyanimate_core.files import json_value
from ..easyanimate_core.models.geometry import floor_frames
from ..easyanimate_core.models.specs import Head
from ..easyanimate_core.paths.camera import CameraPath, camera_path_from_rows
from . import inputs
from .bridge import original
from .control import NO_MOVE
from .original import CATEGORY, MODEL

#: From the original's text box, or a text of any node.
PROMPT = io.Custom("STRING_PROMPT,STRING")
#: A text. With a STRING of forced input, the frontend of ComfyUI 0.8 shifts the widgets' values.
CAMERA_TEXT = io.Custom("STRING,CAMERA_TRAJECTORY")
SCHEDULERS = ("Euler", "Euler A", "DPM++", "PNDM", "DDIM", "Flow")
RESOLUTIONS = (512, 768, 960, 1024)

#: The original's sizes (height, width) of base_resolution 512 that are wider than high. The upright
#: ones are the same turned, but for 672 x 352.
_WIDE = (
    *((256, width) for width in (1024, 992, 960, 928)),
    *((288, width) for width in (896, 864, 832)),
    *((320, width) for width in (800, 768)),
    *((352, width) for width in (736, 704, 672)),
    *((384, width) for width in (672, 640)),
    *((416, width) for width in (608, 576)),
    *((448, width) for width in (576, 544)),
    *((480, width) for width in (544, 512)),
)
_UPRIGHT = tuple(
    (width, height) for height, width in reversed(_WIDE) if (height, width) != (352, 672)
)
_SIZES = (*_WIDE, (512, 512), *_UPRIGHT)
_DEFAULT_SHAPE = (384, 672)


def size_for(height: int, width: int, base_resolution: int) -> tuple[int, int]:
    """(height, width) that the original gives a source of this size."""
    aspect = height / width
    tall, wide = min(_SIZES, key=lambda size: abs(round(size[0] / size[1], 2) - aspect))
    return tuple(int(side / 512 * base_resolution / 16) * 16 for side in (tall, wide))


class TextToVideoSampler(io.ComfyNode):
    """The original's sampler for text to video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateV5_T2VSampler",
            display_name="EasyAnimateV5 Sampler for Text to Video",
            category=CATEGORY,
            description="Of the original pack: encodes, samples and decodes a video, with "
            "EasyAnimate Empty Latent Video.",
            is_deprecated=True,
            enable_expand=True,
            inputs=[
                *_prompt_inputs(),
                *_size_widgets(),
                io.Boolean.Input("is_image", default=False, tooltip="Make a single image."),
                *_sampler_widgets(),
                *_cache_widgets(),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The frames of the video.")],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls,
        easyanimate_model: Any,
        prompt: str,
        negative_prompt: str,
        video_length: int,
        width: int,
        height: int,
        is_image: bool,
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        teacache_threshold: float,
        enable_teacache: bool,
    ) -> io.NodeOutput:
        loaded = _loaded(easyanimate_model, scheduler, (Head.T2V, Head.INPAINT))
        cache = teacache_threshold if enable_teacache else 0.0
        asked = original.Asked(prompt, negative_prompt, seed, steps, cfg, scheduler, cache)
        length = floor_frames(1 if is_image else video_length)
        original.say(cls.hidden.unique_id, _length_note(video_length, length, is_image=is_image))
        size = {"width": width, "height": height, "length": length, "batch_size": 1}

        def condition(graph: Any, positive: Any, negative: Any, _vae: Any) -> tuple[Any, Any, Any]:
            return positive, negative, graph.node("EasyAnimateEmptyLatentVideo", **size).out(0)

        frames, nodes = original.expand(cls.hidden, loaded, asked, condition)
        return io.NodeOutput(frames, expand=nodes)


class ImageToVideoSampler(io.ComfyNode):
    """The original's sampler for image to video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateV5_I2VSampler",
            display_name="EasyAnimateV5 Sampler for Image to Video",
            category=CATEGORY,
            description="Of the original pack: encodes, samples and decodes a video, with "
            "EasyAnimate Image to Video.",
            is_deprecated=True,
            enable_expand=True,
            inputs=[
                *_prompt_inputs(),
                *_length_and_resolution("the first image"),
                *_sampler_widgets(),
                *_cache_widgets(),
                io.Image.Input("start_img", optional=True, tooltip="The first frame, or several."),
                io.Image.Input("end_img", optional=True, tooltip="The last frame, or several."),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The frames of the video.")],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls,
        easyanimate_model: Any,
        prompt: str,
        negative_prompt: str,
        video_length: int,
        base_resolution: int,
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        teacache_threshold: float,
        enable_teacache: bool,
        start_img: Any = None,
        end_img: Any = None,
    ) -> io.NodeOutput:
        loaded = _loaded(easyanimate_model, scheduler, (Head.INPAINT,))
        first = end_img if start_img is None else start_img
        if first is None:
            raise InputError("There is neither a start_img nor an end_img. Connect one of them.")
        cache = teacache_threshold if enable_teacache else 0.0
        asked = original.Asked(prompt, negative_prompt, seed, steps, cfg, scheduler, cache)
        length = floor_frames(video_length)
        size = _sized(first, base_resolution, length)
        known = {"start_image": start_img, "end_image": end_img}
        lines = [*_length_note(video_length, length), _size_note(size, "the image")]
        original.say(cls.hidden.unique_id, lines)
        noise = {"reference_noise": REFERENCE_NOISE, "noise_seed": seed, "keyframe_positions": ""}
        condition = _conditioned("EasyAnimateImageToVideo", **size, **noise, **known)
        frames, nodes = original.expand(cls.hidden, loaded, asked, condition)
        return io.NodeOutput(frames, expand=nodes)


class VideoToVideoSampler(io.ComfyNode):
    """The original's sampler for video to video, control and camera."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateV5_V2VSampler",
            display_name="EasyAnimateV5 Sampler for Video to Video",
            category=CATEGORY,
            description="Of the original pack: encodes, samples and decodes a video, with "
            "EasyAnimate Video to Video, Control or Camera, whichever the model is for.",
            is_deprecated=True,
            enable_expand=True,
            inputs=[
                *_prompt_inputs(),
                *_length_and_resolution("the reference image, else of the video"),
                *_sampler_widgets(denoise=True),
                *_cache_widgets(),
                io.Image.Input(
                    "validation_video", optional=True, tooltip="The video to change (InP, T2V)."
                ),
                io.Image.Input(
                    "control_video", optional=True, tooltip="The control video (Control)."
                ),
                CAMERA_TEXT.Input(
                    "camera_conditions",
                    optional=True,
                    tooltip="From CameraTrajectoryFromChaoJie (Control-Camera).",
                ),
                io.Image.Input(
                    "ref_image",
                    optional=True,
                    tooltip="What the video should look like (V5.1 Control, Control-Camera).",
                ),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The frames of the video.")],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls,
        easyanimate_model: Any,
        prompt: str,
        negative_prompt: str,
        video_length: int,
        base_resolution: int,
        seed: int,
        steps: int,
        cfg: float,
        denoise_strength: float,
        scheduler: str,
        teacache_threshold: float,
        enable_teacache: bool,
        **sources: Any,
    ) -> io.NodeOutput:
        loaded = _loaded(easyanimate_model, scheduler, tuple(Head))
        cache = teacache_threshold if enable_teacache else 0.0
        asked = original.Asked(prompt, negative_prompt, seed, steps, cfg, scheduler, cache)
        given = {name: value for name, value in sources.items() if _is_given(value)}
        is_video = loaded.head in (Head.T2V, Head.INPAINT)
        lines = _not_used(loaded.head, given, denoise_strength)
        if is_video:
            asked = replace(asked, denoise=round(denoise_strength, 2))
        make = _video if is_video else _camera if loaded.head is Head.CAMERA else _control
        condition, notes = make(given, video_length, base_resolution)
        original.say(cls.hidden.unique_id, [*lines, *notes])
        frames, nodes = original.expand(cls.hidden, loaded, asked, condition)
        return io.NodeOutput(frames, expand=nodes)


_USED = {
    Head.T2V: ("validation_video",),
    Head.INPAINT: ("validation_video",),
    Head.CONTROL: ("control_video", "ref_image"),
    Head.CAMERA: ("camera_conditions", "ref_image"),
}


def _is_given(value: Any) -> bool:
    """Whether there is a source; a text that nobody wrote is none."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def _not_used(head: Head, given: dict[str, Any], denoise: float) -> list[str]:
    """Sentences about what this model does not look at; InputError if what it needs is missing."""
    needed = _USED[head][0]
    if needed not in given:
        raise InputError(f"The model has the head {head.value} and needs {needed}. Connect it.")
    lines = [
        f"{name} is not used: the model has the head {head.value}."
        for name in given
        if name not in _USED[head]
    ]
    if denoise < 1 and head in (Head.CONTROL, Head.CAMERA):
        lines.append(f"denoise_strength {denoise:g} is not used: it is for video to video.")
    return lines


def _video(given: dict[str, Any], asked: int, resolution: int) -> tuple[Any, list[str]]:
    video = given["validation_video"]
    length = floor_frames(min(asked, len(video)))
    size = _sized(video, resolution, length)
    latent = {"video": video, **size, **_CLIP, "strict": False}

    def condition(graph: Any, positive: Any, negative: Any, vae: Any) -> tuple[Any, Any, Any]:
        node = graph.node("EasyAnimateVideoToVideo", vae=vae, **latent)
        return positive, negative, node.out(0)

    return condition, [*_length_note(asked, length), _size_note(size, "the video")]


def _control(given: dict[str, Any], asked: int, resolution: int) -> tuple[Any, list[str]]:
    video, reference = given["control_video"], given.get("ref_image")
    length = floor_frames(min(asked, len(video)))
    size = _sized(video if reference is None else reference, resolution, length)
    whole = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **_CLIP}
    condition = _conditioned(
        "EasyAnimateControl", control_video=video, reference_image=reference, **size, **whole
    )
    what = "the control video" if reference is None else "the reference image"
    return condition, [*_length_note(asked, length), _size_note(size, what)]


def _camera(given: dict[str, Any], asked: int, resolution: int) -> tuple[Any, list[str]]:
    path, reference = _path(given["camera_conditions"]), given.get("ref_image")
    length = floor_frames(min(asked, len(path)))
    source = torch.zeros(1, *_DEFAULT_SHAPE, 3) if reference is None else reference
    size = _sized(source, resolution, length)
    moves = {"move": "Static", "second_move": NO_MOVE, "speed": 1.0, "poses": ""}
    condition = _conditioned(
        "EasyAnimateCamera", camera_path=path, reference_image=reference, **size, **moves
    )
    what = "the default shape" if reference is None else "the reference image"
    return condition, [*_length_note(asked, length), _size_note(size, what)]


_CLIP = {"source_fps": 8.0, "if_short": inputs.SHORT[0]}


def _conditioned(node_id: str, **widgets: Any) -> original.Condition:
    """A conditioning node of this pack; sources that are None are left out."""
    given = {name: value for name, value in widgets.items() if value is not None}

    def condition(graph: Any, positive: Any, negative: Any, vae: Any) -> tuple[Any, Any, Any]:
        node = graph.node(node_id, positive=positive, negative=negative, vae=vae, **given)
        return node.out(0), node.out(1), node.out(2)

    return condition


def _loaded(value: Any, scheduler: str, heads: Sequence[Head]) -> original.OriginalModel:
    loaded = original.checked(value)
    loaded.check_scheduler(scheduler)
    if loaded.head not in heads:
        wanted = " or ".join(head.value for head in heads)
        raise InputError(
            f"The model has the head {loaded.head.value}; this sampler needs {wanted}. Choose "
            "another checkpoint in Load EasyAnimate Model, or another sampler."
        )
    return loaded


def _sized(source: Any, resolution: int, length: int) -> dict[str, int]:
    height, width = size_for(source.shape[1], source.shape[2], resolution)
    return {"width": width, "height": height, "length": length, "batch_size": 1}


def _size_note(size: dict[str, int], source: str) -> str:
    return f"The size is {size['height']} x {size['width']}, the closest to the shape of {source}."


def _length_note(asked: int, length: int, *, is_image: bool = False) -> list[str]:
    if is_image or asked == length:
        return []
    return [
        f"video_length is {asked}; {length} frames are made: 4n + 1, at most those of the source."
    ]


def _path(text: str) -> CameraPath:
    """A camera path from the text of CameraTrajectoryFromChaoJie."""
    rows = json_value(text, list, "The text of camera_conditions", error=InputError)
    timed = [[0, *row] if isinstance(row, list) else row for row in rows]
    return camera_path_from_rows(timed)


def _prompt_inputs() -> list[io.Input]:
    return [
        MODEL.Input("easyanimate_model", tooltip="From Load EasyAnimate Model."),
        PROMPT.Input("prompt", tooltip="What the video should show."),
        PROMPT.Input("negative_prompt", tooltip="What it should not show."),
    ]


def _length_widget() -> io.Input:
    tip = "Number of frames, 4n + 1. A clip that has fewer makes a shorter video."
    return io.Int.Input("video_length", default=49, min=1, max=49, step=4, tooltip=tip)


def _size_widgets() -> list[io.Input]:
    side = {"min": 64, "max": 2048, "step": 16}
    return [
        _length_widget(),
        io.Int.Input("width", default=1008, tooltip="Width of the video in pixels.", **side),
        io.Int.Input("height", default=576, tooltip="Height of the video in pixels.", **side),
    ]


def _length_and_resolution(source: str) -> list[io.Input]:
    return [
        _length_widget(),
        io.Combo.Input(
            "base_resolution",
            options=list(RESOLUTIONS),
            default=768,
            tooltip=f"The video has about this number of pixels squared, in the shape of {source}.",
        ),
    ]


def _sampler_widgets(*, denoise: bool = False) -> list[io.Input]:
    strength = io.Float.Input(
        "denoise_strength",
        default=0.7,
        min=0.05,
        max=1.0,
        step=0.01,
        round=0.01,
        tooltip="Video to video: lower values keep more of the video. Not used for control.",
    )
    return [
        io.Int.Input(
            "seed",
            default=43,
            min=0,
            max=inputs.SEED_MAX,
            control_after_generate=True,
            tooltip="Seed of the noise. The original drew it on the GPU: the same seed gives "
            "another video than there.",
        ),
        io.Int.Input("steps", default=25, min=1, max=200, tooltip="Steps of the schedule."),
        io.Float.Input(
            "cfg",
            default=7.0,
            min=1.0,
            max=20.0,
            step=0.01,
            round=0.001,
            tooltip="How closely to follow the prompt.",
        ),
        *([strength] if denoise else []),
        io.Combo.Input(
            "scheduler",
            options=list(SCHEDULERS),
            default=SCHEDULERS[-1],
            tooltip="V5.1 only supports Flow, V5 only the other five; the original made noise of "
            "the rest.",
        ),
    ]


def _cache_widgets() -> list[io.Input]:
    return [
        io.Float.Input(
            "teacache_threshold",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.005,
            round=0.001,
            tooltip="step_cache of EasyAnimate Sampler: skips steps that change little, by "
            "EasyCache instead of TeaCache.",
        ),
        io.Boolean.Input("enable_teacache", default=True, tooltip="Whether to skip steps."),
    ]


NODES = (TextToVideoSampler, ImageToVideoSampler, VideoToVideoSampler)
