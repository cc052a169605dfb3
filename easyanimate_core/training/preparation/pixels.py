"""Measures of the pixels of a clip or an image: size, motion, sharpness, darkness and bars.

They are taken at a few evenly spaced moments. Frames are uint8 RGB [H, W, 3].
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...media import damaged, read_facts, read_image, read_still, stream_frames, to_bytes
from .files import DataFile

#: Must change whenever values would: stored values with another definition are measured again.
DEFINITION = "pixels 2"

MOMENTS = 8

# Optical flow is computed at this shorter side, between frames about 1/16 second apart. For pans
# over a photograph, motions of 0.02 to 2 are measured within 6 %, 0.005 as 0.004 and 3 as 2.9.
_FLOW_SIDE = 128
_FLOW_SECONDS = 1 / 16

# Detail beyond this resolution does not count as sharpness.
_SHARPNESS_SIDE = 480

# Out of 255. FFmpeg's cropdetect uses the same level for black.
_BLACK, _WHITE = 24, 239

# A bar is equally black everywhere and at all times, up to the codec's noise.
_BAR_DEVIATION = 4.0


@dataclass(frozen=True)
class Moment:
    """A frame and the one that follows after `seconds`, None for an image."""

    frame: np.ndarray[Any, Any]
    next_frame: np.ndarray[Any, Any] | None
    seconds: float


def measure_pixels(data: DataFile) -> dict[str, float]:
    """Measure a file: values by the names of the measures, plus `height`, `width` and `frames`.

    Every frame is decoded, so that any damage is found.

    Raises:
        MediaError: The file is damaged.
    """
    if data.type == "image":
        moments = [Moment(to_bytes(read_image(data.file)[0]), None, 0.0)]
        values = {"frames": 1.0}
    else:
        moments, fps, frames = _moments_of(data.file)
        values = {"frames": float(frames), "fps": fps, "seconds": frames / fps}
        values["motion"] = float(np.mean([_motion(moment) for moment in moments]))
    height, width = moments[0].frame.shape[:2]
    grey = [_grey(moment.frame) for moment in moments]
    ends = [m.next_frame for m in moments if m.next_frame is not None]
    light = np.array([frame.mean() for frame in [*grey, *map(_grey, ends)]])
    return {
        "height": float(height),
        "width": float(width),
        "side": float(min(height, width)),
        **values,
        "sharpness": float(np.median([_sharpness(frame) for frame in grey])),
        "dark": float(np.mean(light <= _BLACK)),
        "bright": float(np.mean(light >= _WHITE)),
        "bars": bar_share(np.stack(grey)),
    }


def notes_of(data: DataFile) -> tuple[str, ...]:
    """The changes made to a file so that it looks as a player shows it."""
    if data.type == "image":
        return read_still(data.file).notes
    return read_facts(data.file).even_notes


def sample_frames(data: DataFile, count: int) -> list[np.ndarray[Any, Any]]:
    """`count` frames from the first to the last, or all of a shorter clip; one of an image."""
    if data.type == "image":
        return [to_bytes(read_image(data.file)[0])]
    facts = read_facts(data.file)
    frames, fps = facts.frames_at(facts.even_fps), facts.even_fps
    wanted = {round(i * (frames - 1) / max(1, count - 1)) for i in range(count)}
    return [f.pixels() for f in stream_frames(data.file, threads=1, fps=fps) if f.number in wanted]


def bar_share(grey_FHW: np.ndarray[Any, Any]) -> float:
    """The share of the image covered by black bars that stay in all frames, 0 to 1."""
    height, width = grey_FHW.shape[1:]
    rows = _border(_is_bar(grey_FHW, (0, 2)))
    columns = _border(_is_bar(grey_FHW, (0, 1)))
    return 1 - (1 - rows / height) * (1 - columns / width)


def _moments_of(file: Path) -> tuple[list[Moment], float, int]:
    facts = read_facts(file)
    fps, frames = facts.even_fps, facts.frames_at(facts.even_fps)
    gap = min(max(1, round(fps * _FLOW_SECONDS)), max(0, frames - 1))
    last = frames - 1 - gap
    starts = {round(i * last / (MOMENTS - 1)) for i in range(MOMENTS)}
    wanted = starts | {start + gap for start in starts}
    pictures, count = {}, 0
    for frame in stream_frames(file, threads=1, fps=fps):
        count = frame.number + 1
        if frame.is_damaged:
            raise damaged(file)
        if frame.number in wanted:
            pictures[frame.number] = frame.pixels()
    moments = [
        Moment(pictures[start], pictures.get(start + gap) if gap else None, gap / fps)
        for start in sorted(starts & pictures.keys())
    ]
    return moments, fps, count


def _grey(frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _resized(grey: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    import cv2

    scale = side / min(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(grey, size, interpolation=method)


def _motion(moment: Moment) -> float:
    """Mean length of the optical flow per second, relative to the shorter side."""
    import cv2

    if moment.next_frame is None:
        return 0.0
    first = _resized(_grey(moment.frame), _FLOW_SIDE)
    second = _resized(_grey(moment.next_frame), _FLOW_SIDE)
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = dis.calc(first, second, None)
    pixels = float(np.hypot(flow[..., 0], flow[..., 1]).mean())
    return pixels / _FLOW_SIDE / moment.seconds


def _sharpness(grey: np.ndarray[Any, Any]) -> float:
    import cv2

    if min(grey.shape) > _SHARPNESS_SIDE:
        grey = _resized(grey, _SHARPNESS_SIDE)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def _is_bar(grey_FHW: np.ndarray[Any, Any], axes: tuple[int, int]) -> np.ndarray[Any, Any]:
    """For each row, or each column, whether it is black and static."""
    black = grey_FHW.mean(axes) <= _BLACK
    return black & (grey_FHW.std(axes) <= _BAR_DEVIATION)


def _border(bar: np.ndarray[Any, Any]) -> int:
    """How many are set at both ends, up to the first that is not."""
    if bar.all():
        return len(bar)
    return int(np.argmin(bar)) + int(np.argmin(bar[::-1]))
