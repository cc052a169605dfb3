"""Still images and animations read by Pillow, restricted to a list of formats."""

from __future__ import annotations

import functools
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..errors import EasyAnimateError, MediaError, counted
from .colours import ColourSpace, over_white
from .film import Film, StreamedFrame
from .paths import Sequence, check_is_file, kind_of
from .seen import Seen, check_pixels_of
from .streams import open_container

Array = np.ndarray[Any, Any]

#: Pillow supports many more, some of which run external programs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "AVIF")

# Pillow raises many types for damaged files, such as SyntaxError for a broken PNG.
_DAMAGE = (
    OSError, SyntaxError, EOFError, ValueError, TypeError, LookupError, ArithmeticError,
    AttributeError, RuntimeError, MemoryError, AssertionError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip

# As in browsers, a shorter duration means that the file does not specify one.
_SHORTEST_MS, _UNSAID_MS = 10, 100


_NO_EXIF = "Its EXIF data is damaged, so its orientation is ignored."
_NO_PROFILE = "Its colour profile cannot be used, so its colours are not converted."


class NotAPictureError(MediaError):
    """The file is not a still image, though it is not known to be damaged."""


@dataclass(frozen=True)
class Picture:
    """`pixels` [H, W, 3] as displayed: uint8, or float32 in [0, 1] for grey of more than 8 bits.

    `transparent`: some pixels let the white background through. `notes` list the conversions.
    """

    pixels: Array
    transparent: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureFacts:
    """Size as displayed, and the notes of `Picture`."""

    height: int
    width: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Profile:
    """An ICC profile, if there is one to convert from, with the note of its conversion."""

    note: str = ""
    mode: str = ""
    profile: Any = None


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read a still image.

    Raises:
        NotAPictureError: It is an animation, or not in a supported format.
        MediaError: The file is missing, damaged, or too large.
    """
    file = check_is_file(path)
    with _open(file) as image:
        _check_is_still(file, image)
        return _look_at(file, image, _stated_colours(file))


def is_animation(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an animated image; False if it cannot be read."""
    try:
        with _open(check_is_file(path)) as image:
            return _is_moving(image)
    except MediaError:
        return False


def is_of_pillow(file: Path) -> bool:
    """Whether its format's animations are read by Pillow rather than FFmpeg."""
    kind = kind_of(file)
    return bool(kind) and kind.upper() in _formats()


def read_texts(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text metadata of an image."""
    file = check_is_file(path)
    with _open(file) as image, _decoding(file):
        image.load()  # PNG may store some after the pixels
        return {key: str(text) for key, text in getattr(image, "text", {}).items()}


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of an image as displayed, without decoding its pixels."""
    file = check_is_file(path)
    with _open(file) as image, _decoding(file):
        return _upright_size(file, image)[:2]


def picture_facts(path: str | os.PathLike[str]) -> PictureFacts:
    """The size and the notes of `read_picture`, from the header alone.

    Raises:
        NotAPictureError: It is an animation, or not in a supported format.
        MediaError: The file is missing, too large, or its header is damaged.
    """
    file = check_is_file(path)
    with _open(file) as image:
        _check_is_still(file, image)
        with _decoding(file):
            height, width, notes = _upright_size(file, image)
            if not _is_deep_grey(image):
                colours = _stated_colours(file)
                profile = _profile_of(image.info.get("icc_profile"))
                notes += filter(None, [profile.note if colours.is_plain else colours.note()])
    return PictureFacts(height, width, tuple(notes))


@contextmanager
def open_animation(path: str | os.PathLike[str]) -> Iterator[Film]:
    """Open an animated WebP, PNG or AVIF, with its own frame times."""
    file = check_is_file(path)
    with _open(file) as image:
        count = _num_frames(image)
        if count < 2:
            raise MediaError(f"{file} is not a video but a single picture.")
        first = 1 if image.info.get("default_image") else 0  # only a fallback for still viewers
        notes: list[str] = []
        seconds = _load(file, image, first)
        yield Film(1 / seconds, _moving(file, image, range(first, count), notes), notes)


@contextmanager
def open_sequence(name: str | os.PathLike[str], sequence: Sequence, fps: float) -> Iterator[Film]:
    """Open images as a clip; `fps` provides the times that they lack."""
    notes = [
        f"It is {counted(len(sequence.pictures), 'picture')}, shown at {fps:g} frames per second."
    ]
    if sequence.missing:
        notes.append(f"Skipped: {counted(sequence.missing, 'number')} without a picture.")
    size = picture_size(sequence.pictures[0])

    def see(file: Path, _cover: object) -> Seen:
        found = picture_size(file)
        if found != size:
            raise MediaError(
                f"{file} is {found[1]} x {found[0]}, but the first picture of {name} is {size[1]} "
                f"x {size[0]}; all pictures of a clip must have the same size."
            )
        return _seen(read_picture(file), notes)

    frames = (
        StreamedFrame(number, number / fps, (number + 1) / fps, partial(see, file))
        for number, file in enumerate(sequence.pictures)
    )
    yield Film(fps, frames, notes)


def _moving(
    file: Path, image: Image.Image, numbers: range, notes: list[str]
) -> Iterator[StreamedFrame]:
    colours, start = _stated_colours(file), 0.0
    for number, place in enumerate(numbers):
        seconds = _load(file, image, place)
        see = partial(_see_copy, file, image.copy(), colours, notes)
        yield StreamedFrame(number, start, start + seconds, see)
        start += seconds


def _see_copy(
    file: Path, image: Image.Image, colours: ColourSpace, notes: list[str], _cover: object
) -> Seen:
    return _seen(_look_at(file, image, colours), notes)


def _seen(picture: Picture, notes: list[str]) -> Seen:
    notes += [note for note in picture.notes if note not in notes]
    pixels = picture.pixels
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels * 255).astype(np.uint8)
    return Seen(pixels, picture.transparent)


def _load(file: Path, image: Image.Image, number: int) -> float:
    """Decode a frame of an animation and return its duration in seconds."""
    with _decoding(file):
        image.seek(number)
        image.load()
        milliseconds = float(image.info.get("duration") or 0)
    return (milliseconds if milliseconds > _SHORTEST_MS else _UNSAID_MS) / 1000


@contextmanager
def _open(file: Path) -> Iterator[Image.Image]:
    """Open an image and check its size."""
    kind_of(file)
    with _decoding(file), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
        image = Image.open(file, formats=_formats())
    with image:
        check_pixels_of(file, image.height, image.width)
        yield image


@contextmanager
def _decoding(file: Path) -> Iterator[None]:
    """Convert Pillow's errors to our own."""
    try:
        yield
    except EasyAnimateError:
        raise
    except UnidentifiedImageError as error:
        names = ", ".join(name for name in _formats() if name != "MPO")
        raise NotAPictureError(
            f"{file} is not a picture in a supported format. Supported are {names}."
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{file} has too many pixels to be read. Scale it down first.") from error
    except _DAMAGE as error:
        raise MediaError(f"{file} is damaged or cannot be read: {error}") from error


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _num_frames(image: Image.Image) -> int:
    with _decoding(Path(str(getattr(image, "filename", "")))):
        return int(getattr(image, "n_frames", 1))


def _is_moving(image: Image.Image) -> bool:
    # MPO is a photograph with a preview, not an animation.
    return image.format != "MPO" and _num_frames(image) > 1


def _check_is_still(file: Path, image: Image.Image) -> None:
    if _is_moving(image):
        raise NotAPictureError(f"{file} is an animation; read it as a video.")


def _look_at(file: Path, opened: Image.Image, colours: ColourSpace) -> Picture:
    with _decoding(file):
        opened.load()
        image, notes = _upright(opened)
        if _is_deep_grey(image):
            grey = _float_grey(image, file) if image.mode == "F" else _wide_grey(image, file)
            return Picture(np.repeat(grey[..., None], 3, axis=-1), notes=tuple(notes))
        if colours.is_plain:
            image, note = _to_srgb(image)
            notes += [note] if note else []
        alpha = image.has_transparency_data
        pixels = np.array(image.convert("RGBA" if alpha else "RGB"))
        transparent = alpha and bool(pixels[..., 3].min() < 255)
        if transparent:
            pixels = over_white(pixels)
        pixels = pixels[..., :3]
        if not colours.is_plain:
            notes.append(colours.note())
            pixels = colours.to_sdr(pixels.astype(np.uint16) * 257)
        return Picture(np.ascontiguousarray(pixels), transparent, tuple(notes))


def _upright_size(file: Path, image: Image.Image) -> tuple[int, int, list[str]]:
    """Height and width as displayed, and notes."""
    try:
        # For a PNG Pillow's own decodes the pixels, in case that there is more behind them.
        is_whole = image.format != "PNG" or _has_texts_last(file)
        exif = image.getexif() if is_whole else Image.Image.getexif(image)
        turned, notes = exif.get(0x0112, 1) in (5, 6, 7, 8), []
    except _DAMAGE:
        turned, notes = False, [_NO_EXIF]
    return (image.width, image.height, notes) if turned else (image.height, image.width, notes)


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    try:
        return ImageOps.exif_transpose(image), []
    except _DAMAGE:
        return image.copy(), [_NO_EXIF]


def _wide_grey(image: Image.Image, file: Path) -> Array:
    """16-bit grey as [0, 1]. Pillow's own conversion would clip at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise MediaError(f"{file} has grey values beyond 16 bits; save it with 8 or 16 bits.")
    return values.astype(np.float32) / 65535


def _float_grey(image: Image.Image, file: Path) -> Array:
    values = np.asarray(image, np.float32)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise MediaError(
            f"{file} has floating-point values from {low:g} to {high:g}; they must be within "
            "[0, 1]. Scale them, or save the picture with 8 or 16 bits."
        )
    return values


def _to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Convert an image with a non-sRGB colour profile to sRGB; also returns a note, or ""."""
    found = _profile_of(image.info.get("icc_profile"))
    if found.profile is None:
        return image, found.note
    try:
        alpha = image.has_transparency_data and found.mode == "RGB"
        if found.mode != image.mode:
            image = image.convert("RGBA" if alpha else found.mode)
        converted = ImageCms.profileToProfile(
            image,
            found.profile,
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGBA" if alpha else "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, *_DAMAGE):
        return image, _NO_PROFILE
    assert converted is not None
    return converted, found.note


@functools.lru_cache(maxsize=8)
def _profile_of(stored: bytes | None) -> _Profile:
    """Most photographs of a folder have the same."""
    if not stored:
        return _Profile()
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(stored))
        name = ImageCms.getProfileDescription(profile).strip()
        if "srgb" in name.lower():
            return _Profile()
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[profile.profile.xcolor_space.strip()]
    except (ImageCms.PyCMSError, *_DAMAGE):
        return _Profile(_NO_PROFILE)
    shown = "".join(letter for letter in name[:60] if letter.isprintable())
    return _Profile(
        f"Its colours use the profile {shown!r}; they are converted to sRGB.", mode, profile
    )


def _stated_colours(file: Path) -> ColourSpace:
    """The H.273 colour space declared by a PNG (cICP chunk) or an AVIF."""
    kind = kind_of(file)
    if kind == "png":
        return _png_colours(file)
    if kind == "avif":
        return _avif_colours(file)
    return ColourSpace()


def _png_colours(file: Path) -> ColourSpace:
    with file.open("rb") as opened:
        for kind, length in _png_chunks(opened):
            if kind == b"cICP" and length == 4:
                primaries, transfer = opened.read(2)
                return ColourSpace(transfer, primaries)
            if kind == b"IDAT":
                break
    return ColourSpace()


def _has_texts_last(file: Path) -> bool:
    """Whether a PNG has metadata, which may say its orientation, behind its pixels."""
    with file.open("rb") as opened:
        kinds = dropwhile(lambda kind: kind != b"IDAT", (kind for kind, _ in _png_chunks(opened)))
        return not {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}.isdisjoint(kinds)


def _png_chunks(opened: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of every chunk; the file is at its content."""
    place = 8
    opened.seek(place)
    while len(head := opened.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        yield head[4:], length
        place += length + 12
        opened.seek(place)


def _avif_colours(file: Path) -> ColourSpace:
    try:
        with open_container(file) as container:
            for stream in container.streams.video:
                context = stream.codec_context
                if context is not None:
                    return ColourSpace(int(context.color_trc), int(context.color_primaries))
    except MediaError:  # FFmpeg reads fewer AVIF files than Pillow
        pass
    return ColourSpace()
