"""Control: a video that follows a control video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..conditioning.condition import Sources
from ..media import Clip, Fit, Source, load_clip
from ..models.specs import Head
from .loaded import SizedByVideo, Target, align_reference, align_video, load_reference
from .task import Task


@dataclass(frozen=True)
class Control(Task):
    """A video that follows a control video (edges, poses, depth ...), in V5.1 with a reference."""

    video: Source | Clip
    reference: Source | Clip | None = None
    mode: ClassVar[str] = "control"
    heads: ClassVar[tuple[Head, ...]] = (Head.CONTROL,)

    def load(self, *, max_seconds: float | None = None, fit: Fit | None = None) -> LoadedControl:
        """Read the control video and the reference."""
        video = load_clip("control video", self.video, max_seconds, fit, keep_lines=True)
        return LoadedControl(video, load_reference(self.reference))


@dataclass(frozen=True)
class LoadedControl(SizedByVideo):
    """The control video and the reference of a `Control`."""

    reference: Clip | None

    def align(self, target: Target) -> Sources:
        """The control video and the reference."""
        control, notes = align_video(self.video, target, "The control video", keep_lines=True)
        reference, more = align_reference(self.reference, target)
        return Sources(control=control, reference=reference, notes=notes + more)
