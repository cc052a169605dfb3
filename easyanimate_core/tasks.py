"""The modes: what a user gives beside the prompt, and how it becomes the model's sources.

A source is a path or a tensor: pictures and clips are [F, H, W, 3] in [0, 1], masks [F, H, W] with
1 where the model generates. Every mode is a frozen value; `load` reads its files, `align` brings
them to the target's size and length by the rules of `media.align`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .conditioning.channels import takes_no_reference
from .conditioning.condition import Sources
from .conditioning.encode import to_model_range
from .errors import HeadError, InputError
from .media import (
    Clip,
    Fit,
    Masks,
    Source,
    align_clip,
    align_mask,
    available_frames,
    load_clip,
    load_image,
    load_masks,
    load_picture,
    pick_frames,
    resize_cover,
)
from .models.geometry import cover_crop, floor_frames
from .models.specs import Head, TransformerConfig, Version
from .paths.camera import CameraPath, camera_path, plucker_embedding, read_camera_file
from .paths.trajectory import Track, check_inside, heatmap_frames, read_tracks, resample

DEFAULT_FRAMES = 49


@dataclass(frozen=True)
class Target:
    """What the result shall be: size in pixels, length in frames (4n + 1), frames per second.

    `short` says what happens to a clip that is shorter: refuse it, or repeat its last frame.
    """

    height: int
    width: int
    frames: int
    fps: float = 8.0
    short: Literal["refuse", "repeat"] = "refuse"


@dataclass(frozen=True)
class TextToVideo:
    """From the prompt alone. One frame makes a picture."""

    mode: ClassVar[str] = "text_to_video"
    heads: ClassVar[tuple[Head, ...]] = (Head.T2V, Head.INPAINT)

    def load(self, max_seconds: float, fit: Fit | None = None) -> TextToVideo:  # noqa: ARG002
        """Nothing to read."""
        return self

    def source_size(self) -> tuple[int, int] | None:
        """Nothing to take a size from."""
        return None

    def default_frames(self, fps: float) -> int:  # noqa: ARG002
        """The trained length."""
        return DEFAULT_FRAMES

    def align(self, target: Target) -> Sources:  # noqa: ARG002
        """Nothing to show."""
        return Sources()


@dataclass(frozen=True)
class ImageToVideo:
    """From known frames: a start image, an end image, both, or frames at any position.

    `start` and `end` may have several frames; `keyframes` maps frame numbers (0 is the first, -1
    the last) to pictures.
    """

    start: Source | Clip | None = None
    end: Source | Clip | None = None
    keyframes: Mapping[int, Source | Clip] = field(default_factory=dict)
    mode: ClassVar[str] = "image_to_video"
    heads: ClassVar[tuple[Head, ...]] = (Head.INPAINT,)

    def load(self, max_seconds: float, fit: Fit | None = None) -> ImageToVideo:  # noqa: ARG002
        """The same with pictures read."""
        if self.start is None and self.end is None and not self.keyframes:
            raise InputError(
                "Image to video needs a known frame: give a start image, an end image or keyframes."
            )
        keyframes = {
            int(index): load_picture(f"keyframe {index}", source)
            for index, source in self.keyframes.items()
        }
        return ImageToVideo(
            load_image("start image", self.start) if self.start is not None else None,
            load_image("end image", self.end) if self.end is not None else None,
            keyframes,
        )

    def source_size(self) -> tuple[int, int] | None:
        """The first picture's size."""
        known = (self.start, self.end, *self.keyframes.values())
        return _size(next(source for source in known if source is not None))

    def default_frames(self, fps: float) -> int:  # noqa: ARG002
        """The trained length."""
        return DEFAULT_FRAMES

    def align(self, target: Target) -> Sources:
        """Known frames in place, the others masked for generation."""
        size = (target.height, target.width)
        video = torch.zeros(target.frames, *size, 3)
        mask = torch.ones(target.frames, *size)
        notes = [*_told("The start image", self.start), *_told("The end image", self.end)]
        for index, source in self.keyframes.items():
            notes += _told(f"The picture of frame {index}", source)
        for index, picture in self._placed(target.frames):
            video[index] = resize_cover(picture.unsqueeze(0), *size)[0]
            mask[index] = 0
            notes += _crop_note(f"The picture of frame {index}", picture, size)
        return Sources(
            video=to_model_range(video), mask=_batched(mask), notes=tuple(dict.fromkeys(notes))
        )

    def _placed(self, frames: int) -> list[tuple[int, Tensor]]:
        """(frame number, picture [H, W, 3]) of every known frame."""
        placed: dict[int, Tensor] = {}
        start, end = _pixels(self.start), _pixels(self.end)
        wanted = [(i, picture) for i, picture in enumerate(start)]
        wanted += [(frames - len(end) + i, picture) for i, picture in enumerate(end)]
        for index, source in self.keyframes.items():
            if not -frames <= index < frames:
                raise InputError(
                    f"Keyframe {index} is outside the video: it has {frames} frames, 0 to "
                    f"{frames - 1} (or -1 for the last)."
                )
            wanted.append((index % frames, _pixels(source)[0]))
        for index, picture in wanted:
            if not 0 <= index < frames or index in placed:
                raise InputError(
                    f"{len(wanted)} known frames do not fit {frames} frames without overlap "
                    f"(frame {index}). Make the video longer or give fewer."
                )
            placed[index] = picture
        if len(placed) == frames:
            raise InputError(
                f"All {frames} frames are known: nothing is left to generate. Make the video "
                "longer, or use video to video."
            )
        return sorted(placed.items())


class _SizedByClip:
    """A mode whose clip gives the size and the length where none are asked for."""

    video: Source | Clip

    def source_size(self) -> tuple[int, int] | None:
        """The clip's size."""
        return _size(self.video)

    def default_frames(self, fps: float) -> int:
        """As long as the clip allows, at most the trained length."""
        return _clip_frames(self.video, fps)


class _SizedByReference:
    """A mode whose reference image, where there is one, gives the size."""

    reference: Source | Clip | None

    def source_size(self) -> tuple[int, int] | None:
        """The reference's size."""
        return _size(self.reference) if self.reference is not None else None


@dataclass(frozen=True)
class VideoToVideo(_SizedByClip):
    """A clip again, noised up to `strength` (0 to 1) and denoised after the prompt."""

    video: Source | Clip
    strength: float = 0.7
    mode: ClassVar[str] = "video_to_video"
    heads: ClassVar[tuple[Head, ...]] = (Head.T2V, Head.INPAINT)

    def load(self, max_seconds: float, fit: Fit | None = None) -> VideoToVideo:
        """The same with the clip read."""
        return replace(self, video=load_clip("video", self.video, max_seconds, fit))

    def align(self, target: Target) -> Sources:
        """The clip; nothing of it is known to the model."""
        video, notes = _aligned(self.video, target, "The video")
        return Sources(video=video, strength=self.strength, notes=notes)


@dataclass(frozen=True)
class RegionEdit(_SizedByClip):
    """A region of a clip generated anew: `mask` is 1 there, one for all frames or one per frame."""

    video: Source | Clip
    mask: Source | Masks
    strength: float = 1.0
    mode: ClassVar[str] = "region_edit"
    heads: ClassVar[tuple[Head, ...]] = (Head.INPAINT,)

    def load(self, max_seconds: float, fit: Fit | None = None) -> RegionEdit:
        """The same with clip and mask read."""
        clip = load_clip("video", self.video, max_seconds, fit)
        return replace(self, video=clip, mask=load_masks(self.mask, clip, fit))

    def align(self, target: Target) -> Sources:
        """The clip as known pixels outside the mask."""
        video, notes = _aligned(self.video, target, "The video")
        assert isinstance(self.mask, Masks)
        assert isinstance(self.video, Clip)
        mask = self.mask.frames
        notes += _told("The mask", self.mask)
        if len(mask) == len(self.video.frames):  # a mask per source frame goes where its frame goes
            clip = _at_rate(self.video, target.fps)
            picked = pick_frames(clip, frames=target.frames, fps=target.fps, short=target.short)
            length = len(clip.times.starts)
            if picked != list(range(length)):
                notes += (f"The mask: its {length} frames are taken as the clip's, one for one.",)
            mask = mask[clip.rows(picked)]
        mask = align_mask(mask, height=target.height, width=target.width, frames=target.frames)
        return Sources(
            video=video, mask=_batched(mask), whole=True, strength=self.strength, notes=notes
        )


@dataclass(frozen=True)
class Control(_SizedByClip):
    """After a control video (edges, poses, depth ...), with a reference image where V5.1 allows."""

    video: Source | Clip
    reference: Source | Clip | None = None
    mode: ClassVar[str] = "control"
    heads: ClassVar[tuple[Head, ...]] = (Head.CONTROL,)

    def load(self, max_seconds: float, fit: Fit | None = None) -> Control:
        """The same with clip and reference read."""
        video = load_clip("control video", self.video, max_seconds, fit, keep_lines=True)
        return Control(video, _load_reference(self.reference))

    def align(self, target: Target) -> Sources:
        """Control video and reference."""
        control, notes = _aligned(self.video, target, "The control video", keep_lines=True)
        reference, more = _aligned_reference(self.reference, target)
        return Sources(control=control, reference=reference, notes=notes + more)


@dataclass(frozen=True)
class Camera(_SizedByReference):
    """Along a camera path: named `moves` at a `speed`, or `poses` (a CameraCtrl text file).

    In the original's timing moves stop one step before their end; without `original_timing` the
    last frame is the end.
    """

    moves: Sequence[str] = ()
    speed: float = 1.0
    poses: str | os.PathLike[str] | CameraPath | None = None
    reference: Source | Clip | None = None
    original_timing: bool = True
    mode: ClassVar[str] = "camera"
    heads: ClassVar[tuple[Head, ...]] = (Head.CAMERA,)

    def load(self, max_seconds: float, fit: Fit | None = None) -> Camera:  # noqa: ARG002
        """The same with poses and reference read."""
        if bool(self.moves) == (self.poses is not None):
            raise InputError("A camera needs either moves (such as 'Pan Up') or poses, not both.")
        if self.poses is not None and self.speed != 1:
            raise InputError(
                f"speed is {self.speed}; it scales moves, and poses are taken as they are. Leave "
                "it at 1."
            )
        if self.poses is not None and not self.original_timing:
            raise InputError(
                "The exact timing is one of moves, and poses are taken as they are. Leave the "
                "original's timing on."
            )
        poses = self.poses
        if poses is not None and not isinstance(poses, CameraPath):
            poses = read_camera_file(poses)
        return replace(self, poses=poses, reference=_load_reference(self.reference))

    def default_frames(self, fps: float) -> int:  # noqa: ARG002
        """The length of the poses, else the trained length."""
        if isinstance(self.poses, CameraPath):
            return min(DEFAULT_FRAMES, floor_frames(len(self.poses)))
        return DEFAULT_FRAMES

    def path(self, frames: int) -> CameraPath:
        """The poses of a result of `frames` frames."""
        if self.poses is None:
            exact = not self.original_timing
            return camera_path(self.moves, frames=frames, speed=self.speed, exact=exact)
        assert isinstance(self.poses, CameraPath)
        return self.poses.first(frames)

    def align(self, target: Target) -> Sources:
        """Pluecker rays and reference."""
        given = self.poses
        notes: tuple[str, ...] = ()
        if isinstance(given, CameraPath) and len(given) > target.frames:
            short = f"the first {target.frames} are used."
            notes = (f"The camera path has {len(given)} poses; {short}",)
        path = self.path(target.frames)
        reference, more = _aligned_reference(self.reference, target)
        rays = plucker_embedding(path, target.height, target.width)
        return Sources(plucker=rays, reference=reference, notes=notes + more)


@dataclass(frozen=True)
class Trajectory(_SizedByReference):
    """Things moved along tracks, drawn as gaussian blobs into a control video.

    `tracks` are a JSON file, JSON text or `Track` values; their points are pixels of the result.
    """

    tracks: str | os.PathLike[str] | Sequence[Track]
    reference: Source | Clip | None = None
    mode: ClassVar[str] = "trajectory"
    heads: ClassVar[tuple[Head, ...]] = (Head.CONTROL,)

    def load(self, max_seconds: float, fit: Fit | None = None) -> Trajectory:  # noqa: ARG002
        """The same with tracks and reference read."""
        tracks = self.tracks
        if isinstance(tracks, str | os.PathLike):
            tracks = read_tracks(tracks)
        return Trajectory(tuple(tracks), _load_reference(self.reference))

    def default_frames(self, fps: float) -> int:  # noqa: ARG002
        """The trained length."""
        return DEFAULT_FRAMES

    def align(self, target: Target) -> Sources:
        """The drawn tracks and the reference."""
        assert not isinstance(self.tracks, str | os.PathLike)
        reference, notes = _aligned_reference(self.reference, target)
        tracks = [resample(track, target.frames) for track in self.tracks]
        for number, track in enumerate(tracks, start=1):
            check_inside(number, track, height=target.height, width=target.width)
            points = len(self.tracks[number - 1].points)
            if points > target.frames:
                notes += (f"Track {number}: {points} points are thinned to {target.frames}.",)
        drawn = heatmap_frames(tracks, height=target.height, width=target.width)
        return Sources(control=to_model_range(drawn), reference=reference, notes=notes)


Task = TextToVideo | ImageToVideo | VideoToVideo | RegionEdit | Control | Camera | Trajectory

#: Mode name to task class.
TASKS: dict[str, type[Any]] = {
    task.mode: task
    for task in (
        TextToVideo,
        ImageToVideo,
        VideoToVideo,
        RegionEdit,
        Control,
        Camera,
        Trajectory,
    )
}


def check_head(task: Task, config: TransformerConfig) -> None:
    """Raise `HeadError`, naming the head that is needed, unless the head can do the task."""
    name = task.mode.replace("_", " ")
    if config.head not in task.heads:
        needed = " or ".join(head.value for head in task.heads)
        version = Version.V5_1 if Head.CAMERA in task.heads else config.version
        raise HeadError(
            f"A {config.head.value} checkpoint cannot do {name}: it needs the {needed} head. "
            f"Load an EasyAnimate {version.value} checkpoint with that head."
        )
    if getattr(task, "reference", None) is not None and not config.has_reference:
        raise takes_no_reference(config)


def _load_reference(source: Source | Clip | None) -> Clip | None:
    return None if source is None else load_picture("reference image", source)


def _pixels(source: object) -> Tensor:
    """The frames of a loaded source, none for None."""
    if source is None:
        return torch.empty(0, 1, 1, 3)
    if isinstance(source, Clip):
        return source.frames
    assert isinstance(source, Tensor)
    return source


def _size(source: object) -> tuple[int, int]:
    assert isinstance(source, Clip)
    return source.size


def _told(name: str, source: object) -> tuple[str, ...]:
    """What reading a source has changed, for the user."""
    notes = source.notes if isinstance(source, Clip | Masks) else ()
    return tuple(f"{name}: {note}" for note in notes)


def _batched(mask_FHW: Tensor) -> Tensor:
    return mask_FHW.unsqueeze(0).unsqueeze(0)


def _clip_frames(clip: object, fps: float) -> int:
    assert isinstance(clip, Clip)
    return min(DEFAULT_FRAMES, floor_frames(available_frames(_at_rate(clip, fps), fps)))


def _at_rate(clip: Clip, fps: float) -> Clip:
    """Frames in memory have no rate of their own: they are taken at the target's."""
    return replace(clip, fps=clip.fps or fps)


def _aligned(
    clip: object, target: Target, name: str, *, keep_lines: bool = False
) -> tuple[Tensor, tuple[str, ...]]:
    assert isinstance(clip, Clip)
    aligned = align_clip(
        _at_rate(clip, target.fps),
        height=target.height,
        width=target.width,
        frames=target.frames,
        fps=target.fps,
        short=target.short,
        keep_lines=keep_lines,
    )
    notes = tuple(f"{name}: {line}" for line in aligned.report.lines())
    notes = _told(name, clip) + notes
    return to_model_range(aligned.frames), notes


def _aligned_reference(reference: object, target: Target) -> tuple[Tensor | None, tuple[str, ...]]:
    if reference is None:
        return None, ()
    size = (target.height, target.width)
    pixels = _pixels(reference)
    notes = _told("The reference image", reference)
    notes += tuple(_crop_note("The reference image", pixels[0], size))
    return to_model_range(resize_cover(pixels, *size)), notes


def _crop_note(name: str, picture_HWC: Tensor, size: tuple[int, int]) -> list[str]:
    crop = cover_crop((picture_HWC.shape[0], picture_HWC.shape[1]), size)
    if crop.cropped_fraction < 0.005:
        return []
    return [f"{name} is cropped to {size[0]} x {size[1]}: {crop.cropped_fraction:.0%} cut off."]
