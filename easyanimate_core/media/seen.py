"""Converts a decoded frame to what a player displays."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import MediaError
from .colours import ColourSpace, over_white

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Array = np.ndarray[Any, Any]

#: Larger frames are rejected before memory is allocated: 8192 x 8192.
MAX_PIXELS = 2**26
#: Each row costs time; JPEG allows no longer sides either.
MAX_SIDE = 65_535

#: H.273 code point.
UNSPECIFIED = 2

_BT709 = 1
# H.273 matrices that FFmpeg's scaler supports: RGB, BT.709, unspecified, FCC, both BT.601s, SMPTE
# 240M and BT.2020.
_KNOWN_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)


@dataclass(frozen=True)
class Seen:
    """`pixels` uint8 RGB [H, W, 3]; `transparent`: some let the white background through."""

    pixels: Array
    transparent: bool = False


@dataclass(frozen=True)
class Look:
    """How to display the frames of a stream.

    `aspect` is the pixel aspect ratio (width / height), `colours` the RGB colour space, `matrix`
    the Y'CbCr matrix as an H.273 code point.
    """

    aspect: Fraction
    colours: ColourSpace
    matrix: int

    def notes(self, frame: VideoFrame) -> list[str]:
        """What the user should know about how frames like this one are converted."""
        notes = [self.colours.note()] if self.colours.note() else []
        if self.aspect != 1:
            shown = round(frame.width * self.aspect)
            notes.append(
                f"Its pixels are not square ({self.aspect.numerator}:{self.aspect.denominator}): "
                f"{frame.width} x {frame.height} is shown as {shown} x {frame.height}."
            )
        if self.matrix not in _KNOWN_MATRICES:
            notes.append(
                f"Its colour matrix ({self.matrix} in H.273) is not supported; colours may be off."
            )
        return notes


@dataclass(frozen=True)
class Orientation:
    """Swap the axes if `across`, then mirror along them."""

    across: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, name: str | os.PathLike[str], frame: VideoFrame) -> Orientation:
        """The orientation in a frame's display matrix: rotations by 90 degrees and flips."""
        stored: Any = frame.side_data.get("DISPLAYMATRIX")
        if stored is None:
            return cls()
        # A point (x, y) is shown at (a x + c y, b x + d y), y down.
        values = np.frombuffer(bytes(stored), np.int32)[:5]
        a, b, _, c, d = (0.0 if abs(value) < 2**10 else float(value) for value in values)
        if a * d and not b and not c:
            return cls(False, a < 0, d < 0)
        if b * c and not a and not d:
            return cls(True, c < 0, b < 0)
        raise MediaError(
            f"{name} is rotated by {frame.rotation} degrees; only multiples of 90 are supported. "
            "Re-encode it, for example with: ffmpeg -i input -r 24 output.mp4"
        )

    def applied(self, pixels: Array) -> Array:
        """Apply the orientation to pixels [H, W, 3]."""
        shown = pixels.swapaxes(0, 1) if self.across else pixels
        shown = shown[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
        return np.ascontiguousarray(shown)


def check_pixels_of(name: str | os.PathLike[str], height: int, width: int) -> None:
    """Raise `MediaError` if an image is too large, before it is decoded."""
    if max(height, width) > MAX_SIDE:
        raise MediaError(
            f"{name} is {width} x {height}; sides may have at most {MAX_SIDE} pixels. Crop it."
        )
    if height * width > MAX_PIXELS:
        raise MediaError(
            f"{name} is {width} x {height}, {height * width / 1e6:.0f} million pixels; at most "
            f"{MAX_PIXELS / 1e6:.0f} million are allowed. Scale it down first."
        )


def see(
    name: str | os.PathLike[str],
    frame: VideoFrame,
    look: Look,
    orientation: Orientation,
    cover: tuple[int, int] | None,
) -> Seen:
    """Convert a video frame to upright, opaque RGB with square pixels for a standard display.

    If colours must be converted, which is slow, the frame is first reduced to what `cover` needs.
    """
    colours = look.colours
    alpha = any(part.is_alpha for part in frame.format.components)
    scale = 1.0
    if cover is not None and not alpha and not colours.is_plain:
        height, width = cover[::-1] if orientation.across else cover
        shown = frame.width * float(look.aspect)
        scale = min(1.0, max(width / shown, height / frame.height))
    pixels = _to_rgb(name, frame, look, alpha=alpha, scale=scale)
    transparent = False
    if alpha:
        transparent = bool(pixels[..., 3].min() < np.iinfo(pixels.dtype).max)
        pixels = over_white(pixels) if transparent else pixels[..., :3]
    if not colours.is_plain:
        pixels = colours.to_sdr(pixels)
    pixels = to_square(name, pixels, look.aspect)
    return Seen(orientation.applied(pixels), transparent)


def shown_size(
    name: str | os.PathLike[str], frame: VideoFrame, look: Look, orientation: Orientation
) -> tuple[int, int]:
    """(height, width) of the pixels of `see`."""
    width = _square_width(name, frame.height, frame.width, look.aspect)
    return (width, frame.height) if orientation.across else (frame.height, width)


def to_square(name: str | os.PathLike[str], pixels: Array, aspect: Fraction) -> Array:
    """Resample uint8 RGB [H, W, 3] from pixel aspect ratio `aspect` to square pixels."""
    height, width = pixels.shape[:2]
    shown = _square_width(name, height, width, aspect)
    if shown == width:
        return pixels
    return np.array(Image.fromarray(pixels).resize((shown, height), Image.Resampling.BICUBIC))


def _square_width(name: str | os.PathLike[str], height: int, width: int, aspect: Fraction) -> int:
    """Width of a picture with square pixels."""
    shown = round(width * aspect)
    if shown < 1:
        raise MediaError(f"{name} has the pixel aspect ratio {aspect}: its width would be 0.")
    if shown != width:
        check_pixels_of(name, height, shown)
    return shown


def _to_rgb(
    name: str | os.PathLike[str], frame: VideoFrame, look: Look, *, alpha: bool, scale: float
) -> Array:
    """uint8 [H, W, 3], or 4 with alpha; uint16 if the colours still need conversion."""
    import av

    form = ("rgba" if alpha else "rgb24") if look.colours.is_plain else "rgb48le"
    changes: dict[str, Any] = {"format": "rgba64le" if alpha and form == "rgb48le" else form}
    if look.matrix == UNSPECIFIED and (frame.width >= 1280 or frame.height > 576):
        changes["src_colorspace"] = _BT709  # the guess that players make
    if scale < 1:
        changes["width"] = max(1, math.ceil(frame.width * scale))
        changes["height"] = max(1, math.ceil(frame.height * scale))
    try:
        return frame.reformat(**changes).to_ndarray()
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{name} has colours that cannot be converted: {error}.") from error
