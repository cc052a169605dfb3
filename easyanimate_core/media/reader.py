"""Pictures, masks and video files as tensors, as a person would see them.

Pictures and clips are float32 [F, H, W, 3] in [0, 1]; masks are float32 [F, H, W] of 0 and 1,
1 = generate. Transparency is laid over white, turned and mirrored pictures are upright, pixels are
square, interlaced fields are filled in, and HDR and wide gamut are brought to an ordinary screen's.
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
from .film import Film, StreamedFrame, at_even_moments
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

#: Tags that the MP4 container writes by itself.
CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """A picture as [1, H, W, 3], upright by its EXIF orientation.

    Transparent pixels are laid over white, as a viewer shows them: the colour stored under full
    transparency is arbitrary. 16-bit grey is scaled to [0, 1]; floating-point grey must be there.
    Animations are refused.
    """
    return read_still(path).frames


def read_still(path: str | os.PathLike[str]) -> Clip:
    """`read_image` as a clip of one frame without a rate, with notes."""
    picture = read_picture(path)
    return Clip(_to_float(picture.pixels)[None], 0.0, notes=picture.notes)


def read_any(
    path: str | os.PathLike[str],
    *,
    size_for: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> Clip:
    """A whole clip whose frames are shown equally long, or a still picture as one of one frame.

    `size_for` gives the (height, width) that a video of a (height, width) is wanted at, in its
    aspect: it is scaled while it is decoded.
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
    """A mask [1, H, W] from a picture, or [F, H, W] from a video, one per frame, of 0 and 1.

    Decoding a video ends after `max_frames` frames. Grey (Rec. 601 luma) of at least half is 1
    (generate). Transparency is refused: whether the transparent part is to be kept or generated
    cannot be told.
    """
    return read_masks(path, max_frames=max_frames).frames


def read_masks(
    path: str | os.PathLike[str],
    *,
    max_frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> Masks:
    """`read_mask` with notes; with a `size` masks are brought to it while they are decoded."""
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
    max_frames: int | None = None,
    max_seconds: float | None = None,
    fit: Fit | None = None,
) -> Clip:
    """The frames of a video file, an animation, a folder of pictures or a pattern such as %04d.png.

    Decoding ends after `max_frames` frames, or with the first that is shown from `max_seconds` on,
    which may be the nearest to the last moment. With `fit`, frames are scaled while they are
    decoded and only those that it needs are kept, so that memory follows the result. Pictures
    without times have the rate of `fit`.

    `fps` of the clip is the declared average rate; where the frames that were read do not keep to
    it, it is their own average. Raises `MediaError` with the reason: a missing file, not a video,
    no video stream, no frames, damaged or cut off.
    """
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames is {max_frames}; at least 1 frame must be read.")
    if max_seconds is not None and not (math.isfinite(max_seconds) and max_seconds > 0):
        raise InputError(f"max_seconds is {max_seconds}; it must be a positive number.")
    ground = _ground_of(path, max_seconds, fit) if fit is not None and fit.keep_lines else None
    starts, end, is_damaged = [], 0.0, False
    with _open(path, fps=DEFAULT_FPS if fit is None else fit.fps) as film:
        kept = _Kept(path, fit, ground)
        for frame in film.frames:
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


def _ground_of(path: str | os.PathLike[str], max_seconds: float | None, fit: Fit) -> float | None:
    """What the frames of `fit` are drawn on, where they are a drawing that is to be scaled.

    They are looked at in a reading of their own, one by one at their full size.
    """
    look = None
    with _open(path, fps=fit.fps) as film:
        frames = film.frames
        if max_seconds is not None:
            frames = takewhile(lambda frame: frame.start < max_seconds, frames)
        step = look_step(round((max_seconds or read_facts(path).seconds) * fit.fps))
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
    """Size, rate and length of a video; one frame is decoded.

    A damaged or cut off file may hold fewer frames than it says; decoding all of it tells.
    """
    with _open(path, threads=1) as film:
        height, width = next(film.frames).pixels().shape[:2]
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
    """The frames of a video one by one: no more than two are kept.

    `threads` is the decoder's number of threads, 0 for as many as it likes. With `fps`, frames
    whose times are their own come as those nearest to even moments.

    Raises:
        MediaError: As `read_video`, and when the picture size changes within the video.
    """
    with _open(path, threads=threads) as film:
        yield from film.frames if fps is None else at_even_moments(film.frames, fps)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts stored in an MP4 or a PNG by `write_mp4` or `write_png`.

    What is no UTF-8 in texts of others is replaced.
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
    path: str | os.PathLike[str], *, fps: float = DEFAULT_FPS, threads: int = 0
) -> Iterator[Film]:
    sequence = find_sequence(path)
    if sequence is not None:
        opened = open_sequence(path, sequence, fps)
    elif _is_of_ffmpeg(path):
        opened = open_film(path, threads=threads)
    else:
        opened = open_animation(path)
    with opened as film:
        yield film


def _is_of_ffmpeg(path: str | os.PathLike[str]) -> bool:
    """Whether FFmpeg reads it; Pillow reads animations with the transparency and times of all."""
    return find_sequence(path) is None and not is_of_pillow(check_is_file(path))


class _Kept:
    """Frames while a clip is read: all, or those that `fit` needs, at its size."""

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
        """The next frame; with a `fit`, the one before is kept if it is nearest to a moment."""
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
        """float32 frames [F, H, W, 3], their numbers (None: all), and the (height, width) seen."""
        if self._fit is not None:
            assert self._earlier is not None
            self._keep(self._earlier)
            return torch.stack(self._frames), tuple(self._numbers), self._size
        # Bytes are kept until the length is known: the float frames are allocated once.
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
                f"its first {len(self._frames)} frames alone take {needed / 1e9:.1f} GB. Cut it, "
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
    if not seconds or abs(seconds * declared - steps) <= 0.5:
        return declared
    return steps / seconds


def _grey(pixels: Array) -> Tensor:
    if pixels.dtype != np.uint8:  # deep grey, the same in every channel
        return torch.from_numpy(pixels[..., 0].copy())
    return _to_float(np.asarray(Image.fromarray(pixels).convert("L")))


def _to_float(pixels: Array) -> Tensor:
    values = torch.from_numpy(np.array(pixels))
    return values.to(torch.float32).div_(255) if values.dtype == torch.uint8 else values


def _binarised(grey: Tensor) -> Tensor:
    return (grey >= MASK_THRESHOLD).to(torch.float32)
