"""Image to video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..conditioning.condition import Sources
from ..conditioning.encode import to_model_range
from ..errors import InputError, counted
from ..media import Clip, Fit, Source, load_image, load_picture, resize_cover
from ..models.specs import Head
from .loaded import Loaded, Target, batched, crop_note, told
from .task import Task


@dataclass(frozen=True)
class ImageToVideo(Task):
    """A video from known frames: a start image, an end image, both, or frames at any position.

    `start` and `end` may have several frames; `keyframes` maps frame numbers (0 is the first, -1
    the last) to images.
    """

    start: Source | Clip | None = None
    end: Source | Clip | None = None
    keyframes: Mapping[int, Source | Clip] = field(default_factory=dict)
    mode: ClassVar[str] = "image_to_video"
    heads: ClassVar[tuple[Head, ...]] = (Head.INPAINT,)

    def load(
        self,
        *,
        max_seconds: float | None = None,  # noqa: ARG002
        fit: Fit | None = None,  # noqa: ARG002
    ) -> LoadedImages:
        """Read the images."""
        if self.start is None and self.end is None and not self.keyframes:
            raise InputError(
                "Image to video needs a known frame: give a start image, an end image or keyframes."
            )
        keyframes = {
            int(index): load_picture(f"keyframe {index}", source)
            for index, source in self.keyframes.items()
        }
        return LoadedImages(
            None if self.start is None else load_image("start image", self.start),
            None if self.end is None else load_image("end image", self.end),
            keyframes,
        )


@dataclass(frozen=True)
class LoadedImages(Loaded):
    """The images of an `ImageToVideo`, at least one."""

    start: Clip | None
    end: Clip | None
    keyframes: Mapping[int, Clip]

    def source_size(self) -> tuple[int, int]:
        """The size of the first image."""
        return next(iter(self._pictures().values())).size

    def align(self, target: Target) -> Sources:
        """Known frames at their positions, the others masked for generation."""
        size = (target.height, target.width)
        video = torch.zeros(target.frames, *size, 3)
        mask = torch.ones(target.frames, *size)
        notes = [note for name, clip in self._pictures().items() for note in told(name, clip)]
        for index, picture in self._placed(target.frames):
            video[index] = resize_cover(picture.unsqueeze(0), *size)[0]
            mask[index] = 0
            notes += crop_note(f"The image at frame {index}", picture, size)
        return Sources(
            video=to_model_range(video), mask=batched(mask), notes=tuple(dict.fromkeys(notes))
        )

    def _pictures(self) -> dict[str, Clip]:
        """The given images, by their names in notes."""
        given = {"The start image": self.start, "The end image": self.end}
        given |= {f"The image at frame {i}": clip for i, clip in self.keyframes.items()}
        return {name: clip for name, clip in given.items() if clip is not None}

    def _placed(self, frames: int) -> list[tuple[int, Tensor]]:
        """(frame number, image [H, W, 3]) of every known frame."""
        start = () if self.start is None else self.start.frames
        end = () if self.end is None else self.end.frames
        wanted = [(i, picture) for i, picture in enumerate(start)]
        wanted += [(frames - len(end) + i, picture) for i, picture in enumerate(end)]
        for index, clip in self.keyframes.items():
            if not -frames <= index < frames:
                raise InputError(
                    f"Keyframe {index} is outside the video: it has {counted(frames, 'frame')}, "
                    f"0 to {frames - 1} (or -1 for the last)."
                )
            wanted.append((index % frames, clip.frames[0]))
        placed: dict[int, Tensor] = {}
        for index, picture in wanted:
            if not 0 <= index < frames or index in placed:
                raise InputError(
                    f"{len(wanted)} known frames do not fit into {counted(frames, 'frame')} "
                    f"without overlap (frame {index}). Make the video longer or give fewer."
                )
            placed[index] = picture
        if len(placed) == frames:
            raise InputError(
                f"Every frame of {frames} is known: nothing is left to generate. Make the video "
                "longer, or use video to video."
            )
        return sorted(placed.items())
