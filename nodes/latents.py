"""Initial latents: empty ones and those of a video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.media import Clip
from ..easyanimate_core.models.geometry import SPATIAL_FACTOR, pixel_frames
from ..easyanimate_core.tasks import ImageToVideo, Target, VideoToVideo
from . import inputs
from .alignment import report_changes, strict_widget
from .bridge.encode import empty_latent, pinned_latent, video_latent

CATEGORY = "EasyAnimate/latent"


class EmptyLatentVideo(io.ComfyNode):
    """Text to video and text to image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateEmptyLatentVideo",
            display_name="EasyAnimate Empty Latent Video",
            category=CATEGORY,
            description="The latent for text to video; length 1 makes an image. For T2V and InP "
            "models.",
            inputs=[*inputs.size_widgets(), inputs.batch_widget()],
            outputs=[io.Latent.Output(display_name="latent", tooltip="For the sampler.")],
        )

    @classmethod
    def execute(cls, width: int, height: int, length: int, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(empty_latent(Target(height, width, length), batch_size))


class VideoToVideoLatent(io.ComfyNode):
    """Video to video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateVideoToVideo",
            display_name="EasyAnimate Video to Video",
            category=CATEGORY,
            description="The latent of a video. Sample it with denoise below 1: lower values keep "
            "more of the video. For T2V and InP models.",
            inputs=[
                inputs.vae_socket(),
                io.Image.Input("video", tooltip="The frames of the video."),
                *inputs.size_widgets(),
                inputs.batch_widget(),
                *inputs.clip_widgets("the video"),
                strict_widget(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="For the sampler."),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        video: Any,
        width: int,
        height: int,
        length: int,
        batch_size: int,
        source_fps: float,
        if_short: str,
        strict: bool,
    ) -> io.NodeOutput:
        target = inputs.target(width, height, length, if_short)
        sources = VideoToVideo(Clip(video, source_fps)).load().align(target)
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        return io.NodeOutput(video_latent(vae, sources, batch_size), report)


class PinFramesNode(io.ComfyNode):
    """A start or an end image for models without such an input."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimatePinFrames",
            display_name="EasyAnimate Pin Frames",
            category=CATEGORY,
            description="Keeps the first or last frames of a latent fixed to an image while the "
            "rest is sampled. Put it between a Control, Camera or Trajectory node and the sampler, "
            "because those models have no start or end image. InP models have them: use Image "
            "to Video.",
            inputs=[
                inputs.vae_socket(),
                io.Latent.Input("latent", tooltip="The latent of the conditioning node."),
                strict_widget(),
                io.Image.Input(
                    "start_image", optional=True, tooltip="The first frame. A single image."
                ),
                io.Image.Input(
                    "end_image",
                    optional=True,
                    tooltip="The last four frames, all the same. A single image.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="For the sampler."),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        latent: dict[str, Any],
        strict: bool,
        start_image: Any = None,
        end_image: Any = None,
    ) -> io.NodeOutput:
        size = _pixel_size(latent["samples"])
        sources = ImageToVideo(start_image, end_image).load().align(size)
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        first = None if start_image is None else sources.video[:, :, :1]
        last = None if end_image is None else sources.video[:, :, -1:]
        return io.NodeOutput(pinned_latent(vae, latent, first, last), report)


def _pixel_size(samples: Any) -> Target:
    frames, height, width = samples.shape[2:]
    return Target(height * SPATIAL_FACTOR, width * SPATIAL_FACTOR, pixel_frames(frames))


NODES = (EmptyLatentVideo, VideoToVideoLatent, PinFramesNode)
