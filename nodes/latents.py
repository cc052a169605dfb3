"""Latents to start from: empty ones and those of a video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.media import Clip
from ..easyanimate_core.tasks import Target, VideoToVideo
from . import inputs
from .alignment import report_changes, strict_widget
from .bridge.encode import empty_latent, video_latent

CATEGORY = "EasyAnimate/latent"


class EmptyLatentVideo(io.ComfyNode):
    """Text to video and text to image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateEmptyLatentVideo",
            display_name="EasyAnimate Empty Latent Video",
            category=CATEGORY,
            description="The latent of text to video; length 1 makes a picture. For T2V and InP "
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
            description="The latent of a video. Sample it with denoise below 1: the lower, the "
            "more of the video stays. For T2V and InP models.",
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
        task = VideoToVideo(Clip(video, source_fps)).load(target.frames / target.fps)
        sources = task.align(target)
        report = report_changes(cls.hidden.unique_id, sources.notes, strict=strict)
        return io.NodeOutput(video_latent(vae, sources, batch_size), report)


NODES = (EmptyLatentVideo, VideoToVideoLatent)
