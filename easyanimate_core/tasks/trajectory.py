"""Trajectory: objects that move along tracks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..conditioning.condition import Sources
from ..conditioning.encode import to_model_range
from ..media import Clip, Fit, Source
from ..models.specs import Head
from ..paths.trajectory import Track, check_inside, heatmap_frames, read_tracks, resample
from .loaded import SizedByReference, Target, align_reference, load_reference
from .task import Task


@dataclass(frozen=True)
class Trajectory(Task):
    """Objects that move along tracks, which are drawn as Gaussian blobs in a control video.

    `tracks` are a JSON file, JSON text or `Track` values; their points are pixels of the result.
    """

    tracks: str | os.PathLike[str] | Sequence[Track]
    reference: Source | Clip | None = None
    mode: ClassVar[str] = "trajectory"
    heads: ClassVar[tuple[Head, ...]] = (Head.CONTROL,)

    def load(
        self,
        *,
        max_seconds: float | None = None,  # noqa: ARG002
        fit: Fit | None = None,  # noqa: ARG002
    ) -> LoadedTrajectory:
        """Read the tracks and the reference."""
        tracks = self.tracks
        if isinstance(tracks, str | os.PathLike):
            tracks = read_tracks(tracks)
        return LoadedTrajectory(load_reference(self.reference), tuple(tracks))


@dataclass(frozen=True)
class LoadedTrajectory(SizedByReference):
    """The reference and the tracks of a `Trajectory`."""

    tracks: tuple[Track, ...]

    def align(self, target: Target) -> Sources:
        """The drawn tracks and the reference."""
        reference, notes = align_reference(self.reference, target)
        tracks = [resample(track, target.frames) for track in self.tracks]
        for number, track in enumerate(tracks, start=1):
            check_inside(number, track, height=target.height, width=target.width)
            points = len(self.tracks[number - 1].points)
            if points > target.frames:
                notes += (f"Track {number}: {points} points are thinned to {target.frames}.",)
        drawn = heatmap_frames(tracks, height=target.height, width=target.width)
        return Sources(control=to_model_range(drawn), reference=reference, notes=notes)
