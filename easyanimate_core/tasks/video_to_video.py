"""Video to video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..conditioning.condition import Sources
from ..media import Clip, Fit, Source, load_clip
from ..models.specs import Head
from .loaded import SizedByVideo, Target, align_video
from .task import Task


@dataclass(frozen=True)
class VideoToVideo(Task):
    """A clip, noised by `strength` (0 to 1) and denoised according to the prompt."""

    video: Source | Clip
    strength: float = 0.7
    mode: ClassVar[str] = "video_to_video"
    heads: ClassVar[tuple[Head, ...]] = (Head.T2V, Head.INPAINT)

    def load(self, *, max_seconds: float | None = None, fit: Fit | None = None) -> LoadedVideo:
        """Read the clip."""
        return LoadedVideo(load_clip("video", self.video, max_seconds, fit), self.strength)


@dataclass(frozen=True)
class LoadedVideo(SizedByVideo):
    """The clip of a `VideoToVideo`."""

    strength: float

    def align(self, target: Target) -> Sources:
        """The clip, to start from; the model sees no known pixels."""
        video, notes = align_video(self.video, target, "The video")
        return Sources(video=video, strength=self.strength, notes=notes)
