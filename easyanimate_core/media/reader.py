"""Pictures, masks and video files as tensors.

Pictures and clips are float32 [F, H, W, 3] in [0, 1]; masks are float32 [F, H, W] of 0 and 1,
1 = generate.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import InputError, MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

#: A mask value of this or more is 1 (generate): 128 of 255 is white, 127 is black.
MASK_THRESHOLD = 0.5

# Without a list FFmpeg also "plays" text files, playlists that name other files, and pictures.
_CONTAINERS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,yuv4mpegpipe,h264,hevc"

_WHITE = (255, 255, 255, 255)

# A file that ends this much before the end it declares is cut off; container clocks are coarse.
_MISSING_SECONDS = 0.5

#: Tags that the MP4 container writes by itself.
CONTAINER_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})


@dataclass(frozen=True)
class Clip:
    """`frames` [F, H, W, 3] float32 in [0, 1], shown at `fps` frames per second."""

    frames: Tensor
    fps: float


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says of itself: its upright size, average rate and number of frames."""

    height: int
    width: int
    fps: float
    frames: int

    @property
    def seconds(self) -> float:
        """How long it is shown."""
        return self.frames / self.fps


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """A picture as [1, H, W, 3], upright by its EXIF orientation.

    Transparent pixels are laid over white, as a viewer shows them: the colour stored under full
    transparency is arbitrary. 16-bit grey is scaled to [0, 1]. Animations are refused.
    """
    with _open_image(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if _has_transparency(image):
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba)
        if image.mode.startswith("I"):
            return _wide_grey(image, path)[..., None].expand(-1, -1, -1, 3).contiguous()
        return _to_float(np.asarray(image.convert("RGB")))[None]


def read_mask(path: str | os.PathLike[str], *, max_frames: int | None = None) -> Tensor:
    """A mask [1, H, W] from a picture, or [F, H, W] from a video, one per frame, of 0 and 1.

    Decoding a video ends after `max_frames` frames. Grey (Rec. 601 luma) of at least half is 1
    (generate). A picture with transparency is refused: whether the transparent part is to be kept
    or generated cannot be told.
    """
    try:
        with _open_image(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if _has_transparency(image):
                raise InputError(
                    f"The mask {path} has transparency; a mask is black (keep) and white "
                    "(generate). Save it without an alpha channel."
                )
            if image.mode.startswith("I"):
                grey = _wide_grey(image, path)
            else:
                grey = _to_float(np.asarray(image.convert("L")))[None]
            return _binarised(grey)
    except _NotAPictureError:
        pass
    with _open_video(path) as (container, stream):
        masks = [
            _binarised(_to_float(np.asarray(Image.fromarray(frame.pixels).convert("L")))).bool()
            for frame in islice(_decoded(path, container, stream), max_frames)
        ]
    return torch.stack(masks).to(torch.float32)


def read_video(
    path: str | os.PathLike[str],
    *,
    max_frames: int | None = None,
    max_seconds: float | None = None,
) -> Clip:
    """The frames of a video file, upright.

    Decoding ends after `max_frames` frames, or after those that show the first `max_seconds`
    seconds (and one more, which may be the nearest to the last moment): a long video costs no more
    memory than what is wanted of it.

    `fps` is the declared average rate; where the frames that were read do not keep to it, it is
    their own average. Raises `MediaError` with the reason: a missing file, a folder, not a video,
    no video stream, no frames, damaged or cut off.
    """
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames is {max_frames}; at least 1 frame must be read.")
    if max_seconds is not None and not (math.isfinite(max_seconds) and max_seconds > 0):
        raise InputError(f"max_seconds is {max_seconds}; it must be a positive number.")
    with _open_video(path) as (container, stream):
        rate = _declared_rate(path, stream)
        limits = [] if max_frames is None else [max_frames]
        if max_seconds is not None:
            limits.append(math.ceil(max_seconds * rate) + 1)
        # Bytes are kept until the length is known: the float frames are allocated once.
        decoded = list(islice(_decoded(path, container, stream), min(limits, default=None)))
    sizes = {frame.pixels.shape for frame in decoded}
    if len(sizes) > 1:
        raise MediaError(f"{path} changes its picture size within the video. {_REENCODE}")
    frames = torch.empty(len(decoded), *decoded[0].pixels.shape, dtype=torch.float32)
    for target, frame in zip(frames, decoded, strict=True):
        target.copy_(torch.from_numpy(frame.pixels)).div_(255)
    return Clip(frames, _rate_of(decoded, rate))


def read_facts(path: str | os.PathLike[str]) -> VideoFacts:
    """Size, rate and length of a video; one frame is decoded.

    A damaged or cut off file may hold fewer frames than it says; decoding all of it tells.
    """
    with _open_video(path) as (container, stream):
        fps = _declared_rate(path, stream)
        frames = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
    first = next(stream_frames(path, threads=1))
    height, width = first.pixels().shape[:2]
    return VideoFacts(height, width, fps, frames)


@dataclass(frozen=True)
class StreamedFrame:
    """A decoded frame, `number` from 0, whose `pixels` are made when they are asked for."""

    number: int
    _decoded: VideoFrame
    _path: str | os.PathLike[str]

    def pixels(self) -> np.ndarray[Any, Any]:
        """uint8 RGB [H, W, 3], upright."""
        return _upright(self._decoded, self._path)


def stream_frames(path: str | os.PathLike[str], *, threads: int = 0) -> Iterator[StreamedFrame]:
    """The frames of a video one by one: no more than one is held.

    `threads` is the decoder's number of threads, 0 for as many as it likes.

    Raises:
        MediaError: As `read_video`, and when the picture size changes within the video.
    """
    size = None
    with _open_video(path) as (container, stream):
        if threads:
            stream.codec_context.thread_count = threads
        for number, frame in enumerate(_decoded_frames(path, container, stream)):
            if size not in (None, (frame.height, frame.width)):
                raise MediaError(f"{path} changes its picture size within the video. {_REENCODE}")
            size = (frame.height, frame.width)
            yield StreamedFrame(number, frame, path)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts stored in an MP4 or a PNG by `write_mp4` or `write_png`."""
    try:
        with _open_image(path) as image:
            return {key: str(text) for key, text in getattr(image, "text", {}).items()}
    except _NotAPictureError:
        pass
    with _open_container(path) as container:
        return {key: text for key, text in container.metadata.items() if key not in CONTAINER_TAGS}


_REENCODE = "Re-encode it, for example with: ffmpeg -i input -r 24 output.mp4"


class _NotAPictureError(MediaError):
    """The file is whole as far as is known, but no still picture."""


def _check_is_file(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if file.is_dir():
        raise MediaError(f"{file} is a folder; name a file.")
    if not file.exists():
        raise MediaError(f"{file} does not exist.")
    if not file.stat().st_size:
        raise MediaError(f"{file} is empty: it has no bytes.")
    return file


@contextmanager
def _open_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A still picture, decoded. MPO is a photograph with a preview, not an animation."""
    file = _check_is_file(path)
    try:
        with Image.open(file) as image:
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise _NotAPictureError(f"{file} is an animation; read it as a video.")
            image.load()
            yield image
    except UnidentifiedImageError as error:
        raise _NotAPictureError(f"{file} is not a picture in a known format.") from error
    # Pillow reports damage by several types, SyntaxError for a broken PNG among them.
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(f"{file} is damaged or cannot be read: {error}") from error


def _has_transparency(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return bool(alpha.min() < 255)


def _wide_grey(image: Image.Image, path: str | os.PathLike[str]) -> Tensor:
    """16-bit grey as [1, H, W]. Pillow's own conversion would clip it at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise MediaError(f"{path} has grey values beyond 16 bits; save it with 8 or 16 bits.")
    return torch.from_numpy(values.astype(np.float32) / 65535)[None]


def _to_float(pixels: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(pixels)).to(torch.float32).div_(255)


def _binarised(grey: Tensor) -> Tensor:
    return (grey >= MASK_THRESHOLD).to(torch.float32)


@contextmanager
def _open_container(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    import av

    file = _check_is_file(path)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{file}", options=options) as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{file} is not a video in a known format, or is damaged or cut off: {error.strerror}."
        ) from error


@contextmanager
def _open_video(
    path: str | os.PathLike[str],
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream. Cover pictures of audio files are no video."""
    import av

    with _open_container(path) as container:
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic
        ]
        if not streams:
            raise MediaError(f"{path} has no video stream.")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


class _Frame(NamedTuple):
    """`pixels` [H, W, 3] uint8 RGB, shown at `moment` seconds (None: the file does not say)."""

    pixels: np.ndarray[Any, Any]
    moment: float | None


def _declared_rate(path: str | os.PathLike[str], stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise MediaError(f"{path} does not say its frame rate. {_REENCODE}")
    return float(rate)


def _rate_of(frames: list[_Frame], declared: float) -> float:
    """The declared rate, unless it misplaces the last frame by more than half a frame."""
    first, last = frames[0].moment, frames[-1].moment
    if first is None or last is None or last <= first:
        return declared
    steps, seconds = len(frames) - 1, last - first
    return declared if abs(seconds * declared - steps) <= 0.5 else steps / seconds


def _decoded(
    path: str | os.PathLike[str], container: InputContainer, stream: VideoStream
) -> Iterator[_Frame]:
    """Every frame, upright."""
    for frame in _decoded_frames(path, container, stream):
        yield _Frame(_upright(frame, path), frame.time)


def _decoded_frames(
    path: str | os.PathLike[str], container: InputContainer, stream: VideoStream
) -> Iterator[VideoFrame]:
    """Every frame as it is stored; `MediaError` when the file ends before its declared end."""
    ratio = stream.sample_aspect_ratio
    if ratio not in (None, 0, 1):
        _log.warning("%s has pixels of aspect %s; they are read as square.", path, ratio)
    num_frames, last = 0, None
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise MediaError(f"{path} is damaged or cut off after {num_frames} frames. {_REENCODE}")
        for frame in packet.decode():
            num_frames, last = num_frames + 1, frame
            yield frame
    if last is None:
        raise MediaError(f"{path} has a video stream without frames.")
    if stream.duration and stream.time_base and last.pts is not None:
        end = (stream.start_time or 0) + stream.duration
        missing = float((end - last.pts) * stream.time_base)
        if missing > _MISSING_SECONDS + 2 / float(stream.average_rate or 1):
            raise MediaError(
                f"{path} is cut off: it ends {missing:.1f} seconds before the end it declares, "
                f"after {num_frames} frames. Copy it again, or re-encode what is left."
            )


def _upright(frame: VideoFrame, path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    pixels = frame.to_ndarray(format="rgb24")
    if frame.rotation % 90:
        raise MediaError(f"{path} is to be shown turned by {frame.rotation} degrees. {_REENCODE}")
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
