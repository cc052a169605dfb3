"""Sockets and widgets that several nodes share."""

from __future__ import annotations

from typing import Literal

from comfy_api.latest import io

from ..easyanimate_core.conditioning.condition import REFERENCE_NOISE
from ..easyanimate_core.models.geometry import (
    LARGEST_SIDE,
    LONGEST,
    MOST_VIDEOS,
    SIZE_MULTIPLE,
    TEMPORAL_FACTOR,
)
from ..easyanimate_core.settings import DEFAULT_SIZE
from ..easyanimate_core.tasks import DEFAULT_FRAMES, Target

#: What to do with a clip that is too short.
SHORT = ("refuse", "repeat last frame")

SEED_MAX = 2**63 - 1


def text_sockets() -> list[io.Input]:
    """Positive and negative conditioning."""
    return [
        io.Conditioning.Input("positive", tooltip="What the video should show."),
        io.Conditioning.Input("negative", tooltip="What the video should not show."),
    ]


def vae_socket() -> io.Input:
    """The VAE that encodes the condition."""
    return io.Vae.Input("vae", tooltip="EasyAnimate's VAE, which encodes the condition.")


def size_widgets() -> list[io.Input]:
    """Width, height and length of the result."""
    height, width = DEFAULT_SIZE
    side = {"min": SIZE_MULTIPLE, "max": LARGEST_SIDE, "step": SIZE_MULTIPLE}
    return [
        io.Int.Input("width", default=width, tooltip=_size_tip("Width"), **side),
        io.Int.Input("height", default=height, tooltip=_size_tip("Height"), **side),
        io.Int.Input(
            "length",
            default=DEFAULT_FRAMES,
            min=1,
            max=LONGEST,
            step=TEMPORAL_FACTOR,
            tooltip="Number of frames, 4n + 1; 1 is an image. Trained up to 49 frames at 8 per "
            "second; longer videos need the node Context Windows (Manual).",
        ),
    ]


def drawn_size_widgets() -> list[io.Input]:
    """Width and height that a control video is drawn for; 0 for the clip's own."""
    side = {"default": 0, "min": 0, "max": LARGEST_SIDE, "step": SIZE_MULTIPLE, "optional": True}
    return [
        io.Int.Input("width", tooltip=_drawn_size_tip("width"), **side),
        io.Int.Input("height", tooltip=_drawn_size_tip("height"), **side),
    ]


def _drawn_size_tip(side: str) -> str:
    return (
        f"The {side} of EasyAnimate Control: lines are then drawn for that size. The clip is "
        "scaled to cover it and cropped. 0 for both sides keeps the clip's size."
    )


def _size_tip(side: str) -> str:
    return (
        f"{side} of the video in pixels, a multiple of {SIZE_MULTIPLE}. Trained on areas from "
        "512 x 512 to 1024 x 1024."
    )


def batch_widget() -> io.Input:
    """Number of videos per run."""
    return io.Int.Input(
        "batch_size",
        default=1,
        min=1,
        max=MOST_VIDEOS,
        tooltip="Number of videos to generate at once. More need more memory.",
    )


def clip_widgets(what: str) -> list[io.Input]:
    """Frame rate of a source clip, and what to do if it is too short."""
    return [
        io.Float.Input(
            "source_fps",
            default=8.0,
            min=0.1,
            max=240.0,
            step=0.01,
            round=0.001,
            tooltip=f"Frames per second of {what}; the result has 8. Connect the fps output of Get "
            "Video Components, or leave 8 if the loader already outputs 8 (force_rate).",
        ),
        io.Combo.Input(
            "if_short",
            options=list(SHORT),
            default=SHORT[0],
            tooltip=f"What to do if {what} is shorter than the length: stop with an error, or "
            "repeat its last frame.",
        ),
    ]


def noise_widgets() -> list[io.Input]:
    """Noise on known pixels and its seed."""
    return [
        io.Float.Input(
            "reference_noise",
            default=REFERENCE_NOISE,
            min=0.0,
            max=1.0,
            step=0.0001,
            round=0.0001,
            tooltip="Noise added to the known pixels. The model was trained with some: more gives "
            "more motion, none stays closest to the images.",
        ),
        io.Int.Input(
            "noise_seed",
            default=43,
            min=0,
            max=SEED_MAX,
            control_after_generate=False,
            tooltip="Seed of that noise. With the same seed as the sampler, the result matches the "
            "command line's.",
        ),
    ]


def keep_widget() -> io.Input:
    """Whether sampling keeps the known parts fixed."""
    return io.Boolean.Input(
        "keep_known",
        default=False,
        tooltip="Keep the known parts fixed by the latent's noise mask: everything outside a "
        "region, and the first frames, come out as the VAE decodes the source. Without it they may "
        "drift, as in the original. Intended for the small model.",
    )


def reference_socket() -> io.Input:
    """The reference image of V5.1's Control heads."""
    return io.Image.Input(
        "reference_image",
        optional=True,
        tooltip="What the video should look like (V5.1 Control and Control-Camera models). A "
        "single image, scaled and cropped to the size.",
    )


#: The socket type of camera paths: `easyanimate_core`'s `CameraPath`.
CAMERA_PATH = io.Custom("EASYANIMATE_CAMERA_PATH")
PLAN = io.Custom("EASYANIMATE_PLAN")


def camera_path_socket(tooltip: str) -> io.Input:
    """A camera path from another node."""
    return CAMERA_PATH.Input("camera_path", optional=True, tooltip=tooltip)


def path_length_widget() -> io.Input:
    """Number of poses of a camera path."""
    return io.Int.Input(
        "length",
        default=DEFAULT_FRAMES,
        min=1,
        max=LONGEST,
        tooltip="Frames of this path. Joined paths share the frame between them: 25 and 25 make "
        "49.",
    )


def path_outputs() -> list[io.Output]:
    """A camera path and its preview."""
    return [
        CAMERA_PATH.Output(
            display_name="camera_path", tooltip="For EasyAnimate Camera or another path node."
        ),
        io.Image.Output(
            display_name="preview",
            tooltip="The path from above and from the side; green is the first camera, red the "
            "last.",
        ),
    ]


def conditioning_outputs() -> list[io.Output]:
    """Positive, negative and latent."""
    return [
        io.Conditioning.Output(display_name="positive", tooltip="For the sampler."),
        io.Conditioning.Output(display_name="negative", tooltip="For the sampler."),
        io.Latent.Output(
            display_name="latent", tooltip="The latent of this size, for the sampler."
        ),
    ]


def plan_socket(effect: str) -> io.Input:
    """A memory plan; `effect` is a sentence about what it does to the node."""
    return PLAN.Input(
        "plan", optional=True, tooltip=f"A plan from EasyAnimate Memory Plan. {effect}"
    )


def report_output() -> io.Output:
    """What a node found or changed, as text."""
    return io.String.Output(
        display_name="report", tooltip="What was found or changed, for Preview as Text."
    )


def target(width: int, height: int, length: int, if_short: str = SHORT[0]) -> Target:
    """The size and length to which sources are converted."""
    short: Literal["refuse", "repeat"] = "refuse" if if_short == SHORT[0] else "repeat"
    return Target(height, width, length, short=short, repeat_by=f"if_short: {SHORT[1]}")
