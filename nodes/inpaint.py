"""Conditioning for InP models: known frames and known regions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.conditioning.inpaint import seen_by_model, shape_mask
from ..easyanimate_core.errors import InputError, counted, there_are
from ..easyanimate_core.media import Clip
from ..easyanimate_core.tasks import ImageToVideo, RegionEdit
from . import inputs
from .alignment import report_changes, strict_widget
from .bridge.encode import empty_latent, encode_known, latent_with_known, video_latent
from .bridge.shown import attach

CATEGORY = "EasyAnimate/conditioning"


class ImageToVideoNode(io.ComfyNode):
    """Start image, end image, both, or keyframes anywhere."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateImageToVideo",
            display_name="EasyAnimate Image to Video",
            category=CATEGORY,
            description="Conditions an InP model on known frames: a start image, an end image, "
            "both, or keyframes anywhere. Images are scaled and cropped to the size.",
            inputs=[
                *inputs.text_sockets(),
                inputs.vae_socket(),
                *inputs.size_widgets(),
                inputs.batch_widget(),
                *inputs.noise_widgets(),
                io.String.Input(
                    "keyframe_positions",
                    default="",
                    placeholder="e.g. 12, 24, -1",
                    tooltip="Frame numbers of the keyframes, one per image: 0 is the first, -1 "
                    "the last.",
                ),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="The first frame, or a batch with the first frames.",
                ),
                io.Image.Input(
                    "end_image",
                    optional=True,
                    tooltip="The last frame, or a batch with the last frames.",
                ),
                io.Image.Input(
                    "keyframes", optional=True, tooltip="The images for keyframe_positions."
                ),
                strict_widget(),
                inputs.keep_widget(),
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
        width: int,
        height: int,
        length: int,
        batch_size: int,
        reference_noise: float,
        noise_seed: int,
        keyframe_positions: str,
        start_image: Any = None,
        end_image: Any = None,
        keyframes: Any = None,
        strict: bool = False,
        keep_known: bool = False,
    ) -> io.NodeOutput:
        target = inputs.target(width, height, length)
        placed = _placed(keyframe_positions, keyframes)
        sources = ImageToVideo(start_image, end_image, placed).load().align(target)
        shown = encode_known(vae, sources, noise_amplitude=reference_noise, seed=noise_seed)
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        latent = empty_latent(target, batch_size)
        if keep_known:
            latent = latent_with_known(vae, latent, sources)
        return io.NodeOutput(attach(positive, shown), attach(negative, shown), latent, report)


def _placed(positions: str, keyframes: Any) -> dict[int, Any]:
    """Images [1, H, W, 3] by frame number."""
    numbers = [part.strip() for part in positions.replace(";", ",").split(",") if part.strip()]
    count = 0 if keyframes is None else len(keyframes)
    if len(numbers) != count:
        raise InputError(
            f"keyframe_positions has {counted(len(numbers), 'number')} ({positions!r}), but "
            f"{there_are(count, 'keyframe')}; give one number per image."
        )
    try:
        frames = [int(number) for number in numbers]
    except ValueError:
        raise InputError(
            f"keyframe_positions is {positions!r}; it must be whole numbers such as 12, 24, -1."
        ) from None
    if len(set(frames)) != count:
        raise InputError(f"keyframe_positions is {positions!r}; each frame may occur only once.")
    return {frame: keyframes[i : i + 1] for i, frame in enumerate(frames)}


class InpaintNode(io.ComfyNode):
    """Conditioning to regenerate a region of a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateInpaint",
            display_name="EasyAnimate Inpaint Video",
            category=CATEGORY,
            description="Lets an InP model regenerate a region of a video. The preview shows what "
            "the model sees: red is generated.",
            inputs=[
                *inputs.text_sockets(),
                inputs.vae_socket(),
                io.Image.Input("video", tooltip="The frames of the video."),
                io.Mask.Input(
                    "mask",
                    tooltip="1 where the model generates: one mask for all frames, or one per "
                    "frame of the video.",
                ),
                *inputs.size_widgets(),
                inputs.batch_widget(),
                *inputs.noise_widgets(),
                *_mask_widgets(),
                *inputs.clip_widgets("the video"),
                strict_widget(),
                inputs.keep_widget(),
            ],
            outputs=[
                *inputs.conditioning_outputs(),
                io.Image.Output(
                    display_name="preview", tooltip="What the model sees; red is generated."
                ),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        vae: Any,
        video: Any,
        mask: Any,
        width: int,
        height: int,
        length: int,
        batch_size: int,
        reference_noise: float,
        noise_seed: int,
        grow_mask: int,
        blur_mask: int,
        source_fps: float,
        if_short: str,
        strict: bool,
        keep_known: bool = False,
    ) -> io.NodeOutput:
        target = inputs.target(width, height, length, if_short)
        sources = RegionEdit(Clip(video, source_fps), mask).load().align(target)
        sources = replace(sources, mask=shape_mask(sources.mask, grow=grow_mask, blur=blur_mask))
        shown = encode_known(vae, sources, noise_amplitude=reference_noise, seed=noise_seed)
        latent = video_latent(vae, sources, batch_size)
        if keep_known:
            latent = latent_with_known(vae, latent, sources)
        preview = seen_by_model(sources.video, sources.mask)
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        conditioning = attach(positive, shown), attach(negative, shown)
        return io.NodeOutput(*conditioning, latent, preview, report)


def _mask_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "grow_mask",
            default=0,
            min=-256,
            max=256,
            tooltip="Pixels to grow the region by on every side; negative values shrink it.",
        ),
        io.Int.Input(
            "blur_mask",
            default=0,
            min=0,
            max=256,
            tooltip="Width in pixels over which the region's edge is softened.",
        ),
    ]


NODES = (ImageToVideoNode, InpaintNode)
