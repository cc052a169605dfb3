"""Colours as an ordinary screen shows them: transparency over white, HDR and wide gamut to sRGB.

Pixels are numpy arrays [H, W, 3] or [H, W, 4]. Transfer functions and primaries have the numbers of
ITU-T H.273, which videos and pictures carry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Transfer functions of H.273.
LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18
_LOGARITHMIC = (9, 10)

_BT2020_TO_BT709 = (
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)
_P3_TO_BT709 = (
    (1.2249, -0.2247, 0.0),
    (-0.0420, 1.0419, 0.0),
    (-0.0196, -0.0786, 1.0979),
)

#: Primaries that reach beyond BT.709's: their name, and the matrix for linear light. ITU-R BT.2407.
_WIDE = {
    9: ("BT.2020", _BT2020_TO_BT709),
    11: ("DCI-P3", _P3_TO_BT709),
    12: ("Display P3", _P3_TO_BT709),
}

_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)

# Display light is relative to HDR's reference white, 203 cd/m2 (ITU-R BT.2408), of a screen of
# 1000. That white is shown at 0.87 of SDR's light, which leaves room for what is brighter; up to
# _KNEE nothing else is changed, above it highlights are rolled off.
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
_EXPOSURE, _KNEE = 0.87, 0.8

# Of the screen that SDR is made for: ITU-R BT.1886.
_SDR_GAMMA = 2.4


@dataclass(frozen=True)
class ColourSpace:
    """What the numbers of RGB pixels mean, by H.273."""

    transfer: int = 2
    primaries: int = 2

    @property
    def is_plain(self) -> bool:
        """Whether an ordinary screen shows the numbers as they are."""
        return self.transfer not in (LINEAR, PQ, HLG) and self.primaries not in _WIDE

    def note(self) -> str:
        """What `to_sdr` does, for the user; empty where it does nothing."""
        names = [{PQ: "HDR (PQ)", HLG: "HDR (HLG)", LINEAR: "linear light"}.get(self.transfer, "")]
        names.append(_WIDE[self.primaries][0] if self.primaries in _WIDE else "")
        found = " in ".join(name for name in names if name)
        if found:
            return f"Its colours are {found}; they are brought to those of an ordinary screen."
        if self.transfer in _LOGARITHMIC:
            return "Its colours are logarithmic and are taken as they are: they will look pale."
        return ""

    def to_sdr(self, pixels: Array) -> Array:
        """uint16 RGB [H, W, 3] of this colour space as uint8 of sRGB's primaries."""
        light = _to_light(self.transfer)[pixels]
        if self.transfer == HLG:  # from the scene's light to that of a screen of 1000 cd/m2
            luma = np.maximum(light @ _BT2020_LUMA, 1e-9)[..., None]
            light *= luma**0.2 * np.float32(_PEAK_NITS / _WHITE_NITS)
        if self.primaries in _WIDE:
            light = light @ np.array(_WIDE[self.primaries][1], np.float32).T
        np.maximum(light, 0, out=light)
        if self.transfer in (PQ, HLG):
            light *= np.float32(_EXPOSURE)
            light *= _rolled_off(light.max(axis=-1, keepdims=True))
        levels = _from_light(self.transfer)(np.minimum(light, 1, out=light))
        return np.rint(levels * 255).astype(np.uint8)


def over_white(pixels: Array) -> Array:
    """uint8 or uint16 RGBA, alpha straight, as RGB laid over white."""
    white = np.iinfo(pixels.dtype).max
    alpha = pixels[..., 3:].astype(np.float32) / white
    shown = pixels[..., :3] * alpha + white * (1 - alpha)
    return np.rint(shown).astype(pixels.dtype)


@cache
def _to_light(transfer: int) -> Array:
    """Linear light of each of 65,536 levels; of HDR in the units above."""
    level = np.linspace(0, 1, 65536, dtype=np.float64)
    if transfer == PQ:  # SMPTE ST 2084
        power = level ** (1 / 78.84375)
        ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        light = 10_000 / _WHITE_NITS * ratio ** (1 / 0.1593017578125)
    elif transfer == HLG:  # ITU-R BT.2100
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12)
    elif transfer == LINEAR:
        light = level
    elif transfer == SRGB:
        light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    else:
        light = level**_SDR_GAMMA
    return light.astype(np.float32)


def _from_light(transfer: int) -> Callable[[Array], Array]:
    """The levels of linear light: the way back of the same curve, for HDR that of SDR video."""
    if transfer in (LINEAR, SRGB):
        return lambda light: np.where(
            light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055
        )
    return lambda light: light ** (1 / _SDR_GAMMA)


def _rolled_off(light: Array) -> Array:
    """The factor that brings light up to the peak to at most 1, so that colours keep their hue."""
    peak = (_PEAK_NITS / _WHITE_NITS * _EXPOSURE - _KNEE) / (1 - _KNEE)
    beyond = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    shown = _KNEE + (1 - _KNEE) * beyond * (1 + beyond / peak**2) / (1 + beyond)
    return np.where(light > _KNEE, shown / np.maximum(light, _KNEE), 1).astype(np.float32)
