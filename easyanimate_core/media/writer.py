"""Writes MP4, PNG, numbered frames and JSON. A file is written whole or not at all.

Frames are float [F, H, W, 3] in [0, 1]; NaN and values outside are rejected, never clipped here.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..errors import InputError, MediaError
from ..files import atomic_file, atomic_folder, write_error
from .reader import CONTAINER_TAGS
from .scale import check_pixels
from .times import DEFAULT_FPS

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


def write_mp4(
    path: str | os.PathLike[str],
    frames: Tensor,
    *,
    fps: float = DEFAULT_FPS,
    metadata: Mapping[str, str] | None = None,
    crf: int = 18,
) -> Path:
    """Write `frames` [F, H, W, 3] as H.264 (yuv420p, BT.709); returns the path.

    `crf` is the quality from 0 (lossless) to 51 (worst); 18 is visually close to lossless.
    `metadata` can be read with `read_metadata`. Both sides must be even, because yuv420p halves the
    chroma resolution.
    """
    check_pixels("The video", frames)
    height, width = frames.shape[1:3]
    with open_mp4(
        path, height=height, width=width, fps=fps, metadata=metadata, crf=crf
    ) as add_frame:
        for frame in frames:
            add_frame(to_bytes(frame))
    return Path(path)


@contextmanager
def open_mp4(
    path: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    fps: float,
    metadata: Mapping[str, str] | None = None,
    crf: int = 18,
    threads: int = 0,
    spare: bool = True,
) -> Iterator[Callable[[np.ndarray[Any, Any]], None]]:
    """`write_mp4` frame by frame: yields a function that takes the next frame, uint8 [H, W, 3].

    The file appears when the block ends without an exception. `threads` is the number of encoder
    threads, 0 for automatic. `spare` is passed to `atomic_file`.
    """
    import av

    target = Path(path)
    if height % 2 or width % 2:
        raise InputError(f"The video is {width} x {height}; H.264 needs even sides.")
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise InputError(f"fps is {fps}; it must be above 0 and at most 1000.")
    if not 0 <= crf <= 51:
        raise InputError(f"crf is {crf}; it must be from 0 (lossless) to 51 (worst).")
    texts = _checked_metadata(metadata)
    with atomic_file(target, spare=spare) as temporary:
        try:
            # use_metadata_tags keeps custom keys; faststart puts the index first, for the web.
            options = {"movflags": "use_metadata_tags+faststart"}
            with av.open(f"file:{temporary}", "w", format="mp4", options=options) as container:
                container.metadata.update(texts)
                stream = _add_stream(container, (height, width), fps=fps, crf=crf, threads=threads)
                yield lambda frame: container.mux(stream.encode(_picture(frame)))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # such as a full disk
                raise write_error(target, error) from error
            raise MediaError(f"{target} cannot be encoded: {error}") from error


def write_png(
    path: str | os.PathLike[str], frame: Tensor, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write one frame, [H, W, 3] or [1, H, W, 3], with `metadata` as PNG text; returns the path."""
    target = Path(path)
    frames = frame[None] if frame.ndim == 3 else frame
    check_pixels("The picture", frames)
    if len(frames) != 1:
        raise InputError(
            f"A PNG holds one frame, not {len(frames)}; pass a single one, or use write_frames."
        )
    with atomic_file(target) as temporary:
        _save_png(temporary, frames[0], _checked_metadata(metadata))
    return target


def write_frames(folder: str | os.PathLike[str], frames: Tensor) -> Path:
    """Write `frames` [F, H, W, 3] as frame_00000.png, ... to a new or empty folder, atomically."""
    target = Path(folder)
    check_pixels("The video", frames)
    with atomic_folder(target) as temporary:
        for index, frame in enumerate(frames):
            _save_png(temporary / f"frame_{index:05d}.png", frame, {})
    return target


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write `value` as indented UTF-8 JSON; returns the path. NaN is not valid JSON: rejected."""
    target = Path(path)
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{target} cannot be written as JSON: {error}.") from error
    with atomic_file(target) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return target


def to_bytes(frames: Tensor) -> np.ndarray[Any, Any]:
    """Convert frames in [0, 1], of any shape, to uint8 on the CPU, rounding to nearest."""
    levels = frames.detach().to("cpu", torch.float32).mul(255).round()
    return np.ascontiguousarray(levels.to(torch.uint8).numpy())


def _add_stream(
    container: OutputContainer, size: tuple[int, int], *, fps: float, crf: int, threads: int
) -> VideoStream:
    from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": str(crf)}
    # Without tags, players guess the matrix from the picture size, and colours shift.
    context = stream.codec_context
    context.thread_count = threads
    context.colorspace = 1  # AVCOL_SPC_BT709
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    context.color_range = ColorRange.MPEG
    return stream


def _picture(frame: np.ndarray[Any, Any]) -> VideoFrame:
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorRange, Colorspace

    return VideoFrame.from_ndarray(frame, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )


def _save_png(file: Path, frame: Tensor, texts: Mapping[str, str]) -> None:
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    Image.fromarray(to_bytes(frame)).save(file, format="PNG", pnginfo=info)


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    for key, text in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise InputError(f"The metadata {key!r} is {text!r}; keys and values must be text.")
        if not (key.isascii() and key.isprintable() and 0 < len(key) < 80):
            raise InputError(
                f"The metadata key {key!r} is not valid; use 1 to 79 printable ASCII characters."
            )
        if key in CONTAINER_TAGS:
            raise InputError(f"The metadata key {key!r} is reserved by MP4; use another.")
        if not text or "\0" in text:
            raise InputError(
                f"The metadata {key!r} is empty or contains a NUL character; leave it out."
            )
    return dict(metadata or {})
