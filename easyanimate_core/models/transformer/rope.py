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
#: Values of half precision that are rotated at a time: 16 MiB in float32, which stay in the cache
#: of a card.
_PART_VALUES = 2**22

#: Cosines and sines, [2, N, D / 2] in float32. The two of an angle are neighbours in memory, so
#: that they can be viewed as a complex number.
RotaryTable = Tensor


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
    """Cosines and sines of every video token's angles, [2, F * height * width, head_dim / 2].

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
    return torch.stack([table.cos(), table.sin()], dim=-1).to(device).permute(2, 0, 1)


def text_and_rotated(text_BTHD: Tensor, video_BVHD: Tensor, rope: RotaryTable) -> Tensor:
    """The text, then the video rotated by `rope`. The video's memory may be overwritten."""
    if _keeps_inputs(video_BVHD, text_BTHD):
        return torch.cat([text_BTHD, rotated(video_BVHD, rope)], dim=1)
    num_text = text_BTHD.shape[1]
    shape = (len(video_BVHD), num_text + video_BVHD.shape[1], *video_BVHD.shape[2:])
    joint_BNHD = video_BVHD.new_empty(shape)
    joint_BNHD[:, :num_text] = text_BTHD
    _rotate(video_BVHD, rope, out=joint_BNHD[:, num_text:])
    return joint_BNHD


def with_rotated_video(joint_BNHD: Tensor, num_text: int, rope: RotaryTable) -> Tensor:
    """The same tokens, those after the text rotated. `joint_BNHD` may be overwritten."""
    text_BTHD, video_BVHD = joint_BNHD[:, :num_text], joint_BNHD[:, num_text:]
    if _keeps_inputs(joint_BNHD):
        return torch.cat([text_BTHD, rotated(video_BVHD, rope)], dim=1)
    _rotate(video_BVHD, rope, out=video_BVHD)
    return joint_BNHD


def rotated(x_BNHD: Tensor, rope: RotaryTable) -> Tensor:
    """Adjacent channel pairs of `x_BNHD`, rotated by the table's angles in float32."""
    if _multiplies_complex(x_BNHD):
        turned = torch.view_as_real(_complex_pairs(x_BNHD.float()) * _complex_table(rope))
    else:
        # Each by its index: a graph that unbinds two parts only takes batches of two.
        cos, sin = rope[0][:, None], rope[1][:, None]  # [N, 1, D / 2]
        even, odd = x_BNHD.float().unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    return turned.flatten(-2).to(x_BNHD.dtype)


def _rotate(x_BNHD: Tensor, rope: RotaryTable, *, out: Tensor) -> None:
    """Write `rotated(x_BNHD)` to `out`, which may be `x_BNHD`."""
    turns_N1K = _complex_table(rope)
    if x_BNHD.dtype is torch.float32:
        torch.mul(_complex_pairs(x_BNHD), turns_N1K, out=_complex_pairs(out))
        return
    tokens = max(1, _PART_VALUES // x_BNHD[:, 0].numel())
    parts = (x_BNHD.split(tokens, 1), turns_N1K.split(tokens), out.split(tokens, 1))
    for part, turns, target in zip(*parts, strict=True):
        wide = part.float()
        _complex_pairs(wide).mul_(turns)
        target.copy_(wide)


def _keeps_inputs(*inputs: Tensor) -> bool:
    """Whether the rotation must not write to its inputs: for gradients, or to be compiled."""
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return learns or not _multiplies_complex(inputs[0])


def _multiplies_complex(x: Tensor) -> bool:
    """Whether complex numbers are quickest: not compiled, where real ones are fused.

    Devices other than CPUs and CUDA's have few complex kernels.
    """
    return x.device.type in ("cpu", "cuda", "meta") and not torch.compiler.is_compiling()


def _complex_pairs(x_BNHD: Tensor) -> Tensor:
    """A view of float32 channel pairs as complex numbers, [B, N, H, D / 2]."""
    return torch.view_as_complex(x_BNHD.unflatten(-1, (-1, 2)))


def _complex_table(rope: RotaryTable) -> Tensor:
    """A view of the table as complex numbers, [N, 1, D / 2]."""
    return torch.view_as_complex(rope.permute(1, 2, 0))[:, None]


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
