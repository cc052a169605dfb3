"""Encoding and decoding in overlapping tiles: memory depends on the tile size, not the frame size.

Shapes: B batch, C channels, F frames, H, W height and width; f, h, w those of latents.

Every tile covers the whole length of the clip. All tiles have the full size and are spaced evenly,
so that no tile is normalised over a narrow strip. Neighbours are blended over the middle half of
their overlap; the quarter of the overlap at a tile's edge, which has the least context, is not
used. What overlaps is computed twice, so a side that divides the frame evenly takes less time:
`sides_for`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor

from ...errors import InputError
from ...progress import Progress, silent
from ..geometry import SPATIAL_FACTOR
from ..specs import VAEConfig
from .model import AutoencoderKLMagvit, Posterior

#: Tile sides in pixels that a user is offered, the largest and fastest first.
TILE_SIDES = (768, 512, 384, 256)
#: Overlap in pixels below which seams appear: about as far as a pixel's context reaches.
_LEAST_OVERLAP = 64
#: The original's, a quarter of its tiles of 512. More is computed twice for nothing.
_MOST_OVERLAP = 128
#: More tiles per axis than these are not tried: they save little memory and take long.
_LEAST_SIDE, _MOST_TILES = 256, 16


@dataclass(frozen=True)
class Tiles:
    """Square tiles: `size` and minimum `overlap` of neighbours in pixels, multiples of 8."""

    size: int
    overlap: int

    @classmethod
    def of_side(cls, side: int) -> Tiles:
        """Tiles of `side` pixels that overlap by a quarter of it, from 64 to 128.

        Raises:
            InputError: `side` is not a multiple of 8, or is below 128.
        """
        quarter = side // 4 // SPATIAL_FACTOR * SPATIAL_FACTOR
        return cls(side, min(max(quarter, _LEAST_OVERLAP), _MOST_OVERLAP))

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("overlap", self.overlap)):
            if value <= 0 or value % SPATIAL_FACTOR:
                nearest = max(1, round(value / SPATIAL_FACTOR)) * SPATIAL_FACTOR
                raise InputError(
                    f"The tile {name} is {value}; it must be a positive multiple of "
                    f"{SPATIAL_FACTOR} pixels. Use {nearest}."
                )
        if 2 * self.overlap > self.size:
            raise InputError(
                f"The tile overlap is {self.overlap} and the size {self.size}; the overlap must "
                "not exceed half the size. Use larger tiles or less overlap."
            )

    def work(self, height: int, width: int) -> float:
        """Pixels computed per pixel of a frame; 1 for a frame that fits in one tile."""
        return prod(self.count(side) * min(side, self.size) / side for side in (height, width))

    def count(self, length: int) -> int:
        """Number of tiles along an axis of `length` pixels."""
        return len(_spans(length // SPATIAL_FACTOR, self))


def sides_for(height: int, width: int) -> tuple[int, ...]:
    """Tile sides to try against the available memory for a frame: ever less memory, more work.

    Each divides an axis into tiles that overlap no more than needed, or leaves the shorter axis
    whole. Empty for a frame that is too small for tiles.
    """
    sides = {_side_for(length, count) for length in (height, width)
             for count in range(1, _MOST_TILES + 1)}  # fmt: skip
    smaller = [side for side in sides if _LEAST_SIDE <= side < max(height, width)]
    found: list[int] = []
    for side in sorted(smaller, key=lambda side: (Tiles.of_side(side).work(height, width), side)):
        if not found or side < found[-1]:
            found.append(side)
    return tuple(found)


def _side_for(length: int, count: int) -> int:
    """The smallest side with which at most `count` tiles cover `length` pixels."""
    side = _LEAST_SIDE
    while side < length and Tiles.of_side(side).count(length) > count:
        side += SPATIAL_FACTOR
    return side


@dataclass(frozen=True)
class TiledEncoder:
    """A VAE that encodes in tiles, with the interface of the VAE itself."""

    vae: AutoencoderKLMagvit
    tiles: Tiles

    @property
    def config(self) -> VAEConfig:
        """The VAE's configuration."""
        return self.vae.config

    def encode(self, video_BCFHW: Tensor, *, progress: Progress = silent) -> Posterior:
        """See `encode_tiled`."""
        return encode_tiled(self.vae, video_BCFHW, self.tiles, progress=progress)


def encode_tiled(
    vae: AutoencoderKLMagvit, video_BCFHW: Tensor, tiles: Tiles, *, progress: Progress = silent
) -> Posterior:
    """`vae.encode` in tiles; a video that fits in one tile is encoded as a whole.

    `progress` is called once per chunk of a tile, with stage "encode".
    """
    vae.check_video(video_BCFHW)

    def moments(tile_BCFHW: Tensor, tile_progress: Progress) -> Tensor:
        posterior = vae.encode(tile_BCFHW, progress=tile_progress)
        return torch.cat([posterior.mean, posterior.logvar], dim=1)

    mean, logvar = _run_tiles(moments, video_BCFHW, tiles, (SPATIAL_FACTOR, 1), progress).chunk(
        2, 1
    )
    return Posterior(mean.contiguous(), logvar.contiguous())


def decode_tiled(
    vae: AutoencoderKLMagvit, latents_BCfhw: Tensor, tiles: Tiles, *, progress: Progress = silent
) -> Tensor:
    """`vae.decode` in tiles; latents that fit in one tile are decoded as a whole.

    `progress` is called once per chunk of a tile, with stage "decode".
    """
    vae.check_latents(latents_BCfhw)

    def video(tile_BCfhw: Tensor, tile_progress: Progress) -> Tensor:
        return vae.decode(tile_BCfhw, progress=tile_progress)

    return _run_tiles(video, latents_BCfhw, tiles, (1, SPATIAL_FACTOR), progress)


def _run_tiles(
    run: Callable[[Tensor, Progress], Tensor],
    x: Tensor,
    tiles: Tiles,
    scales: tuple[int, int],
    progress: Progress,
) -> Tensor:
    """Run every tile and blend the results.

    `scales`: pixels per latent pixel of the input and of the output.
    """
    scale_in, scale_out = scales
    rows, columns = (_spans(side // scale_in, tiles) for side in x.shape[3:])
    row_shares, column_shares = (_shares(spans, scale_out) for spans in (rows, columns))
    num_tiles = len(rows) * len(columns)
    blended: Tensor | None = None
    for index, (i, j) in enumerate(product(range(len(rows)), range(len(columns)))):

        def tile_progress(stage: str, done: int, total: int, index: int = index) -> None:
            progress(stage, index * total + done, num_tiles * total)

        tile = x[..., _scaled(rows[i], scale_in), _scaled(columns[j], scale_in)]
        result = run(tile, tile_progress)
        if blended is None:
            size = row_shares.shape[1], column_shares.shape[1]
            blended = result.new_zeros(*result.shape[:3], *size)
        height, width = _scaled(rows[i], scale_out), _scaled(columns[j], scale_out)
        share = row_shares[i, height, None] * column_shares[j, width]
        blended[..., height, width] += result * share.to(result)
    assert blended is not None
    return blended


def _scaled(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def _spans(length: int, tiles: Tiles) -> list[slice]:
    """Positions of the tiles along an axis of `length` latent pixels."""
    size, overlap = tiles.size // SPATIAL_FACTOR, tiles.overlap // SPATIAL_FACTOR
    if length <= size:
        return [slice(0, length)]
    gaps = math.ceil((length - size) / (size - overlap))
    starts = [round(i * (length - size) / gaps) for i in range(gaps + 1)]
    return [slice(start, start + size) for start in starts]


def _shares(spans: list[slice], scale: int) -> Tensor:
    """Blending weight of each tile at each pixel, (tiles, pixels); the tiles' weights sum to 1."""
    shares = torch.zeros(len(spans), spans[-1].stop * scale)
    for i, span in enumerate(spans):
        shares[i, _scaled(span, scale)] = 1
    for i in range(len(spans) - 1):
        shared = slice(spans[i + 1].start * scale, spans[i].stop * scale)
        length = shared.stop - shared.start
        position = (torch.arange(length) + 0.5) / length
        rising = ((position - 0.25) * 2).clamp(0, 1)
        shares[i, shared] *= 1 - rising
        shares[i + 1, shared] *= rising
    return shares / shares.sum(dim=0)
