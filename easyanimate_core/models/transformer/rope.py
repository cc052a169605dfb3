"""3-D rotary position embedding of the video tokens.

Shapes: B batch, N tokens, H heads, D head dimension, F latent frames.

A quarter of the head dimension encodes time, three eighths each encode height and width. The token
grid is fitted into a base grid, the 30 x 45 tokens of a 480 x 720 video, so that height and width
positions stay within the trained range at every aspect ratio. Source:
aigc-apps/EasyAnimate, pipeline_easyanimate.py (`get_resize_crop_region_for_grid`) and diffusers'
`get_3d_rotary_pos_embed`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import CheckpointError
from ..geometry import SPATIAL_FACTOR

BASE_HEIGHT, BASE_WIDTH = 480, 720
THETA = 10000.0

#: Cosine and sine tables, each [N, D / 2] in float32.
RotaryTable = tuple[Tensor, Tensor]


class Stretch(NamedTuple):
    """A change of the positions along time, height and width.

    The distances from the first position are multiplied by `scale`; then `shift` is added.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def of(self, axis: int, positions: Tensor) -> Tensor:
        """The changed positions of an axis."""
        first = positions[:1]
        return first + (positions - first) * self.scale[axis] + self.shift[axis]


def rotary_table(
    head_dim: int,
    grid: tuple[int, int, int],
    *,
    patch_size: int = 2,
    device: torch.device | str | None = None,
    stretch: Stretch | None = None,
) -> RotaryTable:
    """Angles of every video token as (cos, sin), each [F * height * width, head_dim / 2] float32.

    Args:
        head_dim: Dimension of one attention head, a multiple of 8.
        grid: Latent frames, token rows and token columns.
        patch_size: Latent pixels per token side; it sets the base grid.
        device: Device of the tables.
        stretch: A change of the positions.
    """
    if head_dim % 8:
        raise CheckpointError(
            f"attention_head_dim is {head_dim}; 3-D rotary embedding needs a multiple of 8."
        )
    frames, rows, columns = grid
    (top, left), (bottom, right) = _fit_grid(rows, columns, patch_size)
    positions: tuple[Tensor, ...] = (
        torch.linspace(0, frames - 1, frames),
        torch.linspace(top, bottom * (rows - 1) / rows, rows),
        torch.linspace(left, right * (columns - 1) / columns, columns),
    )
    if stretch is not None:
        positions = tuple(stretch.of(axis, position) for axis, position in enumerate(positions))
    widths = (head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3)
    angles = [_angles(width, position) for width, position in zip(widths, positions, strict=True)]
    time, height, width = angles
    table = torch.cat(
        [
            time[:, None, None].expand(-1, rows, columns, -1),
            height[None, :, None].expand(frames, -1, columns, -1),
            width[None, None, :].expand(frames, rows, -1, -1),
        ],
        dim=-1,
    ).flatten(0, 2)
    return table.cos().to(device), table.sin().to(device)


def apply_rotary(x_BNHD: Tensor, table: RotaryTable) -> Tensor:
    """Rotate adjacent channel pairs of `x_BNHD` by the table's angles, in float32."""
    cos, sin = (part[:, None] for part in table)  # [N, 1, D / 2]
    even, odd = x_BNHD.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    return turned.flatten(-2).to(x_BNHD.dtype)


def _angles(width: int, positions: Tensor) -> Tensor:
    """Position times frequency, [positions, width / 2]."""
    frequencies = 1.0 / THETA ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    return torch.outer(positions, frequencies)


def _fit_grid(rows: int, columns: int, patch_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corners (top, left), (bottom, right) of the token grid fitted into the base grid."""
    base_rows = BASE_HEIGHT // SPATIAL_FACTOR // patch_size
    base_columns = BASE_WIDTH // SPATIAL_FACTOR // patch_size
    if rows / columns > base_rows / base_columns:
        fitted = base_rows, round(base_rows / rows * columns)
    else:
        fitted = round(base_columns / columns * rows), base_columns
    top = round((base_rows - fitted[0]) / 2.0)
    left = round((base_columns - fitted[1]) / 2.0)
    return (top, left), (top + fitted[0], left + fitted[1])
