"""Random inpaint masks: which part of a clip is known and which is to be generated.

Shapes: F frames, H and W height and width. 1 = generate, 0 = known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from .data.records import Sample, Shape
from .section import MaskKind

_MOST_KNOWN_FRAMES = 4
_REGION_MARGIN = 0.08


def draw_kind(
    shape: Shape, shares: Mapping[MaskKind, float], random: np.random.Generator
) -> MaskKind:
    """The kind that `draw_mask` draws first from the same generator."""
    kinds = [kind for kind in shares if shape.frames > 1 or kind in ("region", "all")]
    weights = np.array([shares[kind] for kind in kinds])
    kind = random.choice(kinds, p=weights / weights.sum()) if weights.sum() > 0 else "region"
    return cast("MaskKind", str(kind))


def draw_mask(
    shape: Shape, sample: Sample, shares: Mapping[MaskKind, float], random: np.random.Generator
) -> Tensor:
    """A mask [F, H, W]; its kind is drawn according to `shares`, the config's `masks`.

    A single frame only gets regions, or nothing known.
    """
    kind = draw_kind(shape, shares, random)
    mask = torch.ones(shape)
    if kind in ("start", "both"):
        mask[0] = 0
    if kind in ("end", "both"):
        mask[-1] = 0
    if kind == "frames":
        count = int(random.integers(1, min(_MOST_KNOWN_FRAMES, shape.frames - 1) + 1))
        mask[random.choice(shape.frames, count, replace=False)] = 0
    if kind == "region":
        return _region(shape, sample, random)
    return mask


def _region(shape: Shape, sample: Sample, random: np.random.Generator) -> Tensor:
    """A box of 20 to 70 % of each side, static or moving, or a box around the sample's masks."""
    if sample.masks is not None and bool(sample.masks.any()) and random.random() < 0.5:
        return _around(sample.masks)
    sides = random.uniform(0.2, 0.7, 2)
    start, end = random.uniform(0, 1 - sides, (2, 2))
    if random.random() < 0.5:
        end = start
    mask = torch.zeros(shape)
    for index, share in enumerate(np.linspace(0, 1, shape.frames)):
        top, left = start + (end - start) * share
        rows = slice(round(top * shape.height), round((top + sides[0]) * shape.height))
        columns = slice(round(left * shape.width), round((left + sides[1]) * shape.width))
        mask[index, rows, columns] = 1
    return mask


def _around(marked_FHW: Tensor) -> Tensor:
    """The box around everything marked in any frame, plus a margin."""
    height, width = marked_FHW.shape[1:]
    rows = marked_FHW.amax(dim=(0, 2)).nonzero()
    columns = marked_FHW.amax(dim=(0, 1)).nonzero()
    top = max(0, int(rows.min()) - round(_REGION_MARGIN * height))
    left = max(0, int(columns.min()) - round(_REGION_MARGIN * width))
    mask = torch.zeros_like(marked_FHW)
    mask[
        :,
        top : int(rows.max()) + round(_REGION_MARGIN * height) + 1,
        left : int(columns.max()) + round(_REGION_MARGIN * width) + 1,
    ] = 1
    return mask
