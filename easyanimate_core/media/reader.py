"""Reads images, masks and videos as tensors that look as a player would show them.

Images and clips are float32 [F, H, W, 3] in [0, 1]; masks are float32 [F, H, W] of 0 and 1,
1 = generate. Transparency is composited over white, rotation and mirroring are applied, pixels are
made square, interlaced video is deinterlaced, and HDR and wide gamut are converted to sRGB.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice, takewhile
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError, MediaError
from ..models.geometry import cover_crop
from .clip import Clip, Fit, Masks, VideoFacts
from .film import Film, StreamedFrame, at_even_moments, from_moment
from .lines import DrawingLook, look_step, resize_lines
from .paths import check_is_file, find_sequence
from .pictures import (
    NotAPictureError,
    is_of_pillow,
    open_animation,
    open_sequence,
    read_picture,
    read_texts,
)
from .scale import MASK_THRESHOLD, cover_mask, nothing_left, resize_cover
from .streams import film_times, open_container, open_film
from .times import DEFAULT_FPS, Timing, is_nearer_to_earlier

Array = np.ndarray[Any, Any]

#: Tags that the MP4 muxer writes itself.
CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image as [1, H, W, 3], upright according to its EXIF orientation.

    Transparent pixels are composited over white, as a viewer does: the colour stored under full
    transparency is arbitrary. 16-bit grey is scaled to [0, 1]; floating-point grey must already be
    in that range. Animations are rejected.
    """
    return read_still(path).frames


def read_still(path: str | os.PathLike[str]) -> Clip:
    """`read_image`, as a clip of one frame without a rate, with notes."""
    picture = read_picture(path)
    return Clip(_to_float(picture.pixels)[None], 0.0, notes=picture.notes)


def read_any(
    path: str | os.PathLike[str],
    *,
    size_for: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> Clip:
    """Read a whole clip at a constant rate, or a still image as a clip of one frame.

    `size_for` maps the (height, width) of a video to the size at which it is read, with the same
    aspect ratio; frames are scaled during decoding.
    """
    if find_sequence(path) is None:
        try:
            return replace(read_still(path), fps=DEFAULT_FPS)
        except NotAPictureError:
            pass
    facts = read_facts(path)
    source = (facts.height, facts.width)
    size = source if size_for is None else size_for(source)
    fit = None if size == source else Fit(facts.even_fps, size)
    return read_video(path, fit=fit).at_even_moments(facts.even_fps)


def read_mask(path: str | os.PathLike[str], *, max_frames: int | None = None) -> Tensor:
    """Read a binary mask [1, H, W] from an image, or [F, H, W] from a video.

    At most `max_frames` frames of a video are decoded. Grey (Rec. 601 luma) of at least 0.5 becomes
    1 (generate). Transparency is rejected: it is ambiguous whether the transparent part should be
    kept or generated.
    """
    return read_masks(path, max_frames=max_frames).frames


def read_masks(
    path: str | os.PathLike[str],
    *,
    max_frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> Masks:
    """`read_mask` with notes; with a `size`, masks are scaled to it during decoding."""
    try:
        if find_sequence(path) is None:
            return _still_mask(path)
    except NotAPictureError:
        pass
    masks, before, shape = [], False, (0, 0)
    with _open(path) as film:
        for frame in islice(film.frames, max_frames):
            seen = frame.see(None)
            if seen.transparent:
                raise _transparent_mask(path)
            mask = _binarised(_grey(seen.pixels))
            before, shape = before or bool(mask.any()), (mask.shape[0], mask.shape[1])
            masks.append((mask if size is None else cover_mask(mask[None], *size)[0]).bool())
    together = torch.stack(masks)
    if size is not None and before and not bool(together.any()):
        raise nothing_left(shape, size)
    return Masks(together.to(torch.float32), tuple(film.notes))


def read_video(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    max_frames: int | None = None,
    max_seconds: float | None = None,
    fit: Fit | None = None,
) -> Clip:
    """Read a video file, an animation, an image folder or a pattern such as %04d.png.

    The clip begins `start` seconds after the first frame, and its times count from there; the frame
    that is shown at that moment is the first. Decoding stops after `max_frames` frames, or after
    the first frame at or past `max_seconds`, which may be the nearest to the last time needed. With
    `fit`, frames are scaled during decoding and only the required ones kept, so that memory depends
    on the result only. Images without times get the rate of `fit`.

    The clip's `fps` is the declared average rate, or the actual average of the frames if they
    deviate from it. Raises `MediaError` with the reason: a missing file, not a video, no video
    stream, no frames, damaged or truncated.
    """
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames is {max_frames}; at least 1 frame must be read.")
    if max_seconds is not None and not (math.isfinite(max_seconds) and max_seconds > 0):
        raise InputError(f"max_seconds is {max_seconds}; it must be a positive number.")
    if not (math.isfinite(start) and start >= 0):
        raise InputError(f"start is {start}; it must be a number of seconds from 0 on.")
    keeps_lines = fit is not None and fit.keep_lines
    ground = _ground_of(path, start, max_seconds, fit) if fit is not None and keeps_lines else None
    starts, end, is_damaged = [], 0.0, False
    with _open(path, fps=DEFAULT_FPS if fit is None else fit.fps, start=start) as film:
        kept = _Kept(path, fit, ground)
        for frame in from_moment(film.frames, start):
            kept.offer(frame)
            starts.append(frame.start)
            end = frame.end
            is_damaged = is_damaged or frame.is_damaged
            if len(starts) == max_frames or (max_seconds and frame.start >= max_seconds):
                break
        frames, numbers, size = kept.take_all()
    timing = Timing.of_frames(starts, end, film.rate)
    return Clip(
        frames,
        _rate_of(starts, film.rate),
        timing,
        numbers,
        size,
        tuple(dict.fromkeys(film.notes)),
        kept_lines=ground is not None,
        is_damaged=is_damaged,
    )


def _ground_of(
    path: str | os.PathLike[str], start: float, max_seconds: float | None, fit: Fit
) -> float | None:
    """Background level, if the frames for `fit` are a line drawing that needs scaling; else None.

    This takes a separate pass over the file, at full size, one frame at a time.
    """
    look = None
    with _open(path, fps=fit.fps, start=start) as film:
        frames = from_moment(film.frames, start)
        if max_seconds is not None:
            frames = takewhile(lambda frame: frame.start < max_seconds, frames)
        seconds = max_seconds or read_facts(path).seconds - start
        step = look_step(round(seconds * fit.fps))
        for frame in at_even_moments(frames, fit.fps / step):
            if max_seconds is not None and frame.start >= max_seconds:
                break
            picture = _to_float(frame.pixels())
            size = (picture.shape[0], picture.shape[1])
            if look is None:
                target = fit.size_for(size)
                if cover_crop(size, target).resized == size:
                    return None
                look = DrawingLook(size, target)
            look.add(picture)
    assert look is not None
    return look.ground()


def read_facts(path: str | os.PathLike[str]) -> VideoFacts:
    """Size, rate and length of a video, by decoding a single frame.

    A damaged or truncated file may have fewer frames than it declares; only a full decode tells.
    """
    with _open(path, threads=1) as film:
        height, width = next(film.frames).size
        notes = tuple(film.notes)
    if _is_of_ffmpeg(path):
        count, seconds, rate, even, is_even = film_times(path)
    else:
        with _open(path) as film:
            frames = list(film.frames)
        timing = Timing.of_frames([frame.start for frame in frames], frames[-1].end, film.rate)
        count, seconds, rate = len(frames), timing.end, film.rate
        even, is_even = timing.even_rate(rate), timing.is_even
    on_rate = abs(count / rate - seconds) <= 0.5 / even
    fps = rate if on_rate else count / seconds
    return VideoFacts(height, width, fps, count, even, notes, is_even)


def stream_frames(
    path: str | os.PathLike[str], *, threads: int = 0, fps: float | None = None
) -> Iterator[StreamedFrame]:
    """Yield the frames of a video one by one; at most two are in memory.

    `threads` is the number of decoder threads, 0 for automatic. With `fps`, frames are resampled to
    this constant rate.

    Raises:
        MediaError: As in `read_video`, and if the picture size changes within the video.
    """
    with _open(path, threads=threads) as film:
        yield from film.frames if fps is None else at_even_moments(film.frames, fps)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata stored in an MP4 or a PNG by `write_mp4` or `write_png`.

    Invalid UTF-8, which other programs may have written, is replaced.
    """
    try:
        texts = read_texts(path)
    except NotAPictureError:
        with open_container(path) as container:
            texts = dict(container.metadata)
    return {
        key: text.encode("utf-8", "replace").decode("utf-8")
        for key, text in texts.items()
        if key not in CONTAINER_TAGS
    }


@contextmanager
def _open(
    path: str | os.PathLike[str],
    *,
    fps: float = DEFAULT_FPS,
    threads: int = 0,
    start: float = 0.0,
) -> Iterator[Film]:
    sequence = find_sequence(path)
    if sequence is not None:
        opened = open_sequence(path, sequence, fps)
    elif _is_of_ffmpeg(path):
        opened = open_film(path, threads=threads, start=start)
    else:
        opened = open_animation(path)
    with opened as film:
        yield film


def _is_of_ffmpeg(path: str | os.PathLike[str]) -> bool:
    """Whether FFmpeg reads it; Pillow reads animations with correct transparency and times."""
    return find_sequence(path) is None and not is_of_pillow(check_is_file(path))


class _Kept:
    """Collects frames while a clip is read: all, or those that `fit` needs, at its size."""

    def __init__(self, path: str | os.PathLike[str], fit: Fit | None, ground: float | None) -> None:
        import psutil

        self._path, self._fit, self._ground = path, fit, ground
        self._room = psutil.virtual_memory().available
        self._frames: list[Tensor] = []
        self._numbers: list[int] = []
        self._size = (0, 0)
        self._moments = 0
        self._earlier: StreamedFrame | None = None

    def offer(self, frame: StreamedFrame) -> None:
        """Pass the next frame; with `fit`, the previous one is kept if a target frame needs it."""
        if self._fit is None:
            self._keep(frame)
            return
        earlier = self._earlier
        if earlier is not None:
            taken = False
            while earlier.start < frame.start and is_nearer_to_earlier(
                self._moments / self._fit.fps, earlier.start, frame.start
            ):
                self._moments, taken = self._moments + 1, True
            if taken:
                self._keep(earlier)
        self._earlier = frame

    def take_all(self) -> tuple[Tensor, tuple[int, ...] | None, tuple[int, int]]:
        """Frames [F, H, W, 3], their numbers (None: all), and the source's (height, width)."""
        if self._fit is not None:
            assert self._earlier is not None
            self._keep(self._earlier)
            return torch.stack(self._frames), tuple(self._numbers), self._size
        # Frames stay uint8 until their number is known, so that the float tensor is allocated once.
        frames = torch.empty(len(self._frames), *self._frames[0].shape, dtype=torch.float32)
        for target, pixels in zip(frames, self._frames, strict=True):
            target.copy_(pixels).div_(255)
        return frames, None, self._size

    def _keep(self, frame: StreamedFrame) -> None:
        fit = self._fit
        cover = None if fit is None or not self._frames else fit.size_for(self._size)
        seen = frame.see(cover)
        pixels = torch.from_numpy(seen.pixels)
        if not self._frames:
            self._size = (pixels.shape[0], pixels.shape[1])
        if fit is not None:
            size = fit.size_for(self._size)
            pixels = self._resized(pixels.to(torch.float32).div_(255)[None], size)[0].contiguous()
        self._frames.append(pixels)
        self._numbers.append(frame.number)
        # As float32 they take four bytes per value.
        needed = len(self._frames) * pixels.numel() * 4
        if needed > self._room:
            raise MediaError(
                f"{self._path} is too long to be read whole at {self._size[1]} x {self._size[0]}: "
                f"its first {len(self._frames)} frames alone need {needed / 1e9:.1f} GB. Cut it, "
                "or scale it down."
            )

    def _resized(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        if self._ground is None:
            return resize_cover(frames, *size)
        return resize_lines(frames, *size, self._ground)


def _still_mask(path: str | os.PathLike[str]) -> Masks:
    picture = read_picture(path)
    if picture.transparent:
        raise _transparent_mask(path)
    return Masks(_binarised(_grey(picture.pixels))[None], picture.notes)


def _transparent_mask(path: str | os.PathLike[str]) -> InputError:
    return InputError(
        f"The mask {path} has transparency; a mask is black (keep) and white (generate). Save it "
        "without an alpha channel."
    )


def _rate_of(starts: Sequence[float], declared: float) -> float:
    """The declared rate, unless it misplaces the last frame by more than half a frame."""
    steps, seconds = len(starts) - 1, starts[-1]
    if seconds <= 0 or abs(seconds * declared - steps) <= 0.5:
        return declared
    return steps / seconds


def _grey(pixels: Array) -> Tensor:
    if pixels.dtype != np.uint8:  # high-bit-depth grey, equal in all channels
        return torch.from_numpy(pixels[..., 0].copy())
    return _to_float(np.asarray(Image.fromarray(pixels).convert("L")))


def _to_float(pixels: Array) -> Tensor:
    values = torch.from_numpy(np.array(pixels))
    return values.to(torch.float32).div_(255) if values.dtype == torch.uint8 else values


def _binarised(grey: Tensor) -> Tensor:
    return (grey >= MASK_THRESHOLD).to(torch.float32)
