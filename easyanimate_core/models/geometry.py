"""Sizes and lengths of EasyAnimate V5 and V5.1: pixels, latents, tokens and the rules between them.

Sizes are (height, width) in pixels. A video of 4n + 1 frames has n + 1 latent frames; a latent
pixel covers 8 x 8 pixels; a token covers 2 x 2 latent pixels of one latent frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

SPATIAL_FACTOR = 8
TEMPORAL_FACTOR = 4
PATCH = 2
SIZE_MULTIPLE = SPATIAL_FACTOR * PATCH

#: Upper limits: pixels per side, frames per video, videos per run.
LARGEST_SIDE, LONGEST, MOST_VIDEOS = 4096, 1 + 1024, 64

# Aspect-ratio buckets at base resolution 512, as (height, width), from the published training
# configuration (aigc-apps/EasyAnimate, easyanimate/data/bucket_sampler.py).
_BUCKETS_512: dict[float, tuple[int, int]] = {
    0.25: (256, 1024), 0.26: (256, 992), 0.27: (256, 960), 0.28: (256, 928),
    0.32: (288, 896), 0.33: (288, 864), 0.35: (288, 832), 0.4: (320, 800),
    0.42: (320, 768), 0.48: (352, 736), 0.5: (352, 704), 0.52: (352, 672),
    0.57: (384, 672), 0.6: (384, 640), 0.68: (416, 608), 0.72: (416, 576),
    0.78: (448, 576), 0.82: (448, 544), 0.88: (480, 544), 0.94: (480, 512),
    1.0: (512, 512), 1.07: (512, 480), 1.13: (544, 480), 1.21: (544, 448),
    1.29: (576, 448), 1.38: (576, 416), 1.46: (608, 416), 1.67: (640, 384),
    1.75: (672, 384), 2.0: (704, 352), 2.09: (736, 352), 2.4: (768, 320),
    2.5: (800, 320), 2.89: (832, 288), 3.0: (864, 288), 3.11: (896, 288),
    3.62: (928, 256), 3.75: (960, 256), 3.88: (992, 256), 4.0: (1024, 256),
}  # fmt: skip


def check_size(height: int, width: int) -> None:
    """Raise `InputError` unless both sides are positive multiples of 16."""
    for name, value in (("height", height), ("width", width)):
        if value <= 0 or value % SIZE_MULTIPLE:
            low = max(SIZE_MULTIPLE, value // SIZE_MULTIPLE * SIZE_MULTIPLE)
            raise InputError(
                f"{name} is {value}; it must be a positive multiple of {SIZE_MULTIPLE}. "
                f"Use {low} or {low + SIZE_MULTIPLE}."
            )


def check_frames(frames: int) -> None:
    """Raise `InputError` unless the video length is 4n + 1."""
    if frames < 1 or (frames - 1) % TEMPORAL_FACTOR:
        low = floor_frames(max(frames, 1))
        raise InputError(
            f"frames is {frames}; the length must be {TEMPORAL_FACTOR}n + 1 (1, 5, 9, ... 49). "
            f"Use {low} or {low + TEMPORAL_FACTOR}."
        )


def floor_frames(frames: int) -> int:
    """The greatest valid length (4n + 1) not above `frames`."""
    if frames < 1:
        raise InputError(f"frames is {frames}; a video has at least 1 frame.")
    return (frames - 1) // TEMPORAL_FACTOR * TEMPORAL_FACTOR + 1


def latent_frames(frames: int) -> int:
    """Number of latent frames of a video of `frames` = 4n + 1 frames."""
    check_frames(frames)
    return (frames - 1) // TEMPORAL_FACTOR + 1


def pixel_frames(num_latent_frames: int) -> int:
    """Number of frames that `num_latent_frames` latent frames decode to."""
    return (num_latent_frames - 1) * TEMPORAL_FACTOR + 1


def latent_shape(frames: int, height: int, width: int) -> tuple[int, int, int]:
    """(latent frames, latent height, latent width) of a video."""
    check_size(height, width)
    return latent_frames(frames), height // SPATIAL_FACTOR, width // SPATIAL_FACTOR


def num_tokens(frames: int, height: int, width: int) -> int:
    """Number of video tokens that the denoiser sees: 13,312 for 512 x 512 x 49."""
    num_latent_frames, latent_height, latent_width = latent_shape(frames, height, width)
    return num_latent_frames * (latent_height // PATCH) * (latent_width // PATCH)


def bucket_size(height: int, width: int, base: int = 512) -> tuple[int, int]:
    """The trained size (height, width) closest in aspect ratio to a `height` x `width` source.

    `base` is the side of the square of the same area (512, 768, 960, 1024). The buckets at 512 are
    scaled and rounded down to multiples of 16, as in the original.
    """
    if height <= 0 or width <= 0:
        raise InputError(f"The source size is {height} x {width}; both sides must be positive.")
    if base < SIZE_MULTIPLE:
        raise InputError(f"base is {base}; it must be at least {SIZE_MULTIPLE} (512 is usual).")
    aspect = height / width
    nearest = min(_BUCKETS_512, key=lambda ratio: abs(ratio - aspect))
    bucket_height, bucket_width = _BUCKETS_512[nearest]
    return (
        int(bucket_height / 512 * base / SIZE_MULTIPLE) * SIZE_MULTIPLE,
        int(bucket_width / 512 * base / SIZE_MULTIPLE) * SIZE_MULTIPLE,
    )


@dataclass(frozen=True)
class CoverCrop:
    """How a source is fitted to a target size: resize to cover it, then crop the centre.

    `resized` is (height, width) after the resize; `top` and `left` are where the crop starts.
    """

    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]

    @property
    def cropped_fraction(self) -> float:
        """Fraction of the resized image that the crop removes, 0 to 1."""
        kept = self.size[0] * self.size[1]
        return 1 - kept / (self.resized[0] * self.resized[1])


def cover_crop(source: tuple[int, int], target: tuple[int, int]) -> CoverCrop:
    """Scale `source` (height, width) to cover `target`, keeping its aspect, and crop the centre."""
    (source_height, source_width), (height, width) = source, target
    if min(source_height, source_width, height, width) < 1:
        raise InputError(f"Cannot fit {source} to {target}: every side must be at least 1 pixel.")
    scale = max(height / source_height, width / source_width)
    resized_height = max(height, round(source_height * scale))
    resized_width = max(width, round(source_width * scale))
    return CoverCrop(
        resized=(resized_height, resized_width),
        top=(resized_height - height) // 2,
        left=(resized_width - width) // 2,
        size=(height, width),
    )
