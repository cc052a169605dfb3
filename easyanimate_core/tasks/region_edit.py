"""Editing a region of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..conditioning.condition import Sources
from ..errors import counted
from ..media import Clip, Fit, Masks, Source, align_mask, load_clip, load_masks, pick_frames
from ..models.specs import Head
from .loaded import SizedByVideo, Target, align_video, at_rate, batched, told
from .task import Task


@dataclass(frozen=True)
class RegionEdit(Task):
    """Regenerate the region of a clip where `mask` is 1; one mask, or one per frame."""

    video: Source | Clip
    mask: Source | Masks
    strength: float = 1.0
    mode: ClassVar[str] = "region_edit"
    heads: ClassVar[tuple[Head, ...]] = (Head.INPAINT,)

    def load(self, *, max_seconds: float | None = None, fit: Fit | None = None) -> LoadedRegion:
        """Read the clip and the mask."""
        clip = load_clip("video", self.video, max_seconds, fit)
        return LoadedRegion(clip, load_masks(self.mask, clip, fit), self.strength)


@dataclass(frozen=True)
class LoadedRegion(SizedByVideo):
    """The clip and the masks of a `RegionEdit`."""

    mask: Masks
    strength: float

    def align(self, target: Target) -> Sources:
        """The clip as known pixels outside the mask."""
        video, notes = align_video(self.video, target, "The video")
        notes += told("The mask", self.mask)
        mask, more = self._mask_rows(target)
        mask = align_mask(mask, height=target.height, width=target.width, frames=target.frames)
        return Sources(
            video=video,
            mask=batched(mask),
            whole=True,
            strength=self.strength,
            notes=notes + more,
        )

    def _mask_rows(self, target: Target) -> tuple[Tensor, tuple[str, ...]]:
        """The masks; masks per source frame are resampled like their frames."""
        masks = self.mask.frames
        if len(masks) != len(self.video.frames):
            return masks, ()
        clip = at_rate(self.video, target.fps)
        picked = pick_frames(
            clip,
            frames=target.frames,
            fps=target.fps,
            short=target.short,
            repeat_by=target.repeat_by,
        )
        length = len(clip.times.starts)
        notes: tuple[str, ...] = ()
        if picked != list(range(length)):
            notes = (
                f"The mask: its {counted(length, 'frame')} belong to the clip's frames, one to "
                "one.",
            )
        return masks[clip.rows(picked)], notes
