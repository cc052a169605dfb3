"""Segments the bodies of the synthetic world by colour, in CIE Lab.

Grounds are muted and bodies saturated (or white), so each pixel is assigned to the nearest colour.
A body's actual colour is measured in its interior; its outline is where a pixel is half body and
half ground, which blur does not move.

Shape letters: F frames, H and W pixels. Lab is in its usual units, lightness 0 to 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..scenes import COLOURS, TINTS

Array = np.ndarray[Any, Any]

#: Gaussian sigma in pixels for denoising before all measurements.
_QUIET = 0.8

# Textures are lighter and darker than their tint by this much.
_LIGHTS = (0.76, 1.0, 1.24)

# A colour that covers more of the clip than any body can is the ground.
_GROUND_SHARE = 0.5

# Pixels around a body that blur mixes with it: their motion would be taken for the ground's.
_CLEAR = 6

# A patch below this share of the image, or in fewer frames, is not a body.
_LEAST_AREA = 0.004
_LEAST_FRAMES = 0.25

# A rim of mixed colours: this share of it is within this distance of the body.
_RIM_PIXELS, _RIM_SHARE = 4, 0.6


@dataclass(frozen=True)
class Patch:
    """A body's pixel coverage `cover_FHW` (0 to 1), its `colour` name and `lab` (3)."""

    colour: str
    lab: Array
    cover_FHW: Array


@dataclass(frozen=True)
class Segments:
    """Bodies (largest first), and the pixels and appearance of the ground.

    `tint` is the name of the nearest ground colour, `ground_lab` (3) the mean of its colours.
    """

    patches: tuple[Patch, ...]
    ground_FHW: Array
    ground_lab: Array
    tint: str


def segment(frames_FHWC: Tensor) -> Segments:
    """Find the bodies of a clip [F, H, W, 3] in [0, 1]."""
    lab_FHW3 = to_lab(frames_FHWC)
    names, prototypes = _prototypes()
    away_FHWP = _distances(lab_FHW3, prototypes)
    nearest_FHW = away_FHWP.argmin(-1)
    shares = np.bincount(nearest_FHW.ravel(), minlength=len(names)) / nearest_FHW.size
    ground = [i for i in range(len(names)) if i >= len(COLOURS) or shares[i] > _GROUND_SHARE]
    ground_FHW = np.isin(nearest_FHW, ground)
    tones = _tones(lab_FHW3[ground_FHW] if ground_FHW.any() else lab_FHW3.reshape(-1, 3))
    cores = _cores({i: nearest_FHW == i for i in range(len(COLOURS)) if i not in ground})
    own = {index: _middle_colour(lab_FHW3, core) for index, core in cores.items()}
    patches = []
    for index, core_FHW in cores.items():
        others = np.array([lab for other, lab in own.items() if other != index]).reshape(-1, 3)
        cover = _cover(lab_FHW3, own[index], tones, others)
        patches.append(Patch(names[index], own[index], _connected(cover, core_FHW)))
    middle = tones.mean(0)
    tint = names[len(COLOURS) :][int(_distances(middle, prototypes[len(COLOURS) :]).argmin())]
    return Segments(tuple(patches), _far_from(patches, ground_FHW), middle, tint)


def to_lab(frames_FHWC: Tensor) -> Array:
    """CIE Lab of frames in [0, 1], slightly smoothed: [F, H, W, 3] float32."""
    import cv2

    pixels = frames_FHWC.detach().cpu().float().numpy()
    quiet = [cv2.GaussianBlur(frame, (0, 0), _QUIET) for frame in pixels]
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2Lab) for frame in quiet])


def largest_component(mask_HW: Array) -> Array:
    """The largest connected component of a mask."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8))
    if count < 2:
        return np.zeros_like(mask_HW, dtype=bool)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def grown(mask_HW: Array, pixels: int) -> Array:
    """Dilate a mask by `pixels`, or erode it if negative."""
    import cv2

    side = 2 * abs(pixels) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    change = cv2.dilate if pixels > 0 else cv2.erode
    return np.asarray(change(mask_HW.astype(np.uint8), kernel)) > 0


def _prototypes() -> tuple[list[str], Array]:
    """Names and Lab colours of bodies, then of light and dark grounds."""
    import cv2

    names, colours = list(COLOURS), [np.array(colour) for colour in COLOURS.values()]
    for name, tint in TINTS.items():
        for light in _LIGHTS:
            names.append(name)
            colours.append(np.array(tint) * light)
    rgb = np.array(colours, np.float32)[None] / 255
    return names, np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab))[0]


def _distances(lab: Array, colours_P3: Array) -> Array:
    """Squared distances [..., P] of colours [..., 3] to P palette colours."""
    colours = colours_P3.astype(np.float32)
    squares = (lab.astype(np.float32) ** 2).sum(-1, keepdims=True) + (colours**2).sum(-1)
    return np.asarray(squares - 2 * (lab.astype(np.float32) @ colours.T))


def _tones(lab_N3: Array) -> Array:
    """The light and the dark colour of a ground: [2, 3]."""
    middle = np.median(lab_N3, axis=0)
    _, axes = np.linalg.eigh(np.cov((lab_N3 - middle).T) + 1e-6 * np.eye(3))
    along = (lab_N3 - middle) @ axes[:, -1]
    return np.stack([middle + axes[:, -1] * np.percentile(along, share) for share in (10, 90)])


def _cores(masks: dict[int, Array]) -> dict[int, Array]:
    """The patches that are bodies, largest first: colour index -> [F, H, W]."""
    import cv2

    square = np.ones((3, 3), np.uint8)
    found: dict[int, Array] = {}
    for index, mask_FHW in masks.items():
        opened = [cv2.morphologyEx(m.astype(np.uint8), cv2.MORPH_OPEN, square) for m in mask_FHW]
        core_FHW = np.stack([largest_component(mask) for mask in opened])
        areas_F = core_FHW.mean(axis=(1, 2))
        if (areas_F > _LEAST_AREA).mean() >= _LEAST_FRAMES:
            found[index] = core_FHW
    bodies: dict[int, Array] = {}
    for index in sorted(found, key=lambda i: -int(found[i].sum())):
        near = [np.stack([grown(mask, _RIM_PIXELS) for mask in body]) for body in bodies.values()]
        core = found[index]
        if not any((core & rim).sum() > _RIM_SHARE * core.sum() for rim in near):
            bodies[index] = core
    return bodies


def _middle_colour(lab_FHW3: Array, core_FHW: Array) -> Array:
    inner = np.stack([grown(core, -2) for core in core_FHW])
    return np.asarray(np.median(lab_FHW3[inner if inner.any() else core_FHW], axis=0))


def _cover(lab_FHW3: Array, own: Array, tones: Array, others: Array) -> Array:
    """Coverage of each pixel by the body's colour, 0 to 1, against either ground tone."""
    cover = np.ones(lab_FHW3.shape[:3], np.float32)
    for tone in tones:
        axis = (own - tone).astype(np.float32)
        square = float(axis @ axis) + 1e-6
        share = (lab_FHW3 @ axis - np.float32(tone @ axis)) / square
        # Squared distance from the line through the two colours, by Pythagoras.
        beside = _distances(lab_FHW3, tone[None])[..., 0] - share**2 * square
        cover = np.minimum(cover, np.where(beside < 0.25 * square, share, 0))
    if len(others):
        is_other = _distances(lab_FHW3, others).min(-1) < _distances(lab_FHW3, own[None])[..., 0]
        cover[is_other] = 0
    return np.clip(cover, 0, 1)


def _connected(cover_FHW: Array, core_FHW: Array) -> Array:
    """The coverage in and around the component with the body's core, or else the largest one."""
    kept = np.zeros_like(cover_FHW)
    for frame, (cover, core) in enumerate(zip(cover_FHW, core_FHW, strict=True)):
        part = largest_component(cover > 0.5)
        if core.any() and part.any() and not (part & core).any():
            part = core
        if part.any():
            near = grown(part, 2)
            kept[frame][near] = cover[near]
    return kept


def _far_from(patches: list[Patch], ground_FHW: Array) -> Array:
    """Ground pixels away from every body."""
    ground = ground_FHW.copy()
    for patch in patches:
        near = np.stack([grown(cover > 0.2, _CLEAR) for cover in patch.cover_FHW])
        ground &= ~near
    return ground
