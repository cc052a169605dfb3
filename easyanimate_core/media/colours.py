"""Converts colours for a standard display: alpha over white, HDR and wide gamut to sRGB.

Pixels are NumPy arrays [H, W, 3] or [H, W, 4]. Transfer functions and primaries use the ITU-T H.273
code points that videos and images carry.
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

#: Primaries wider than BT.709: name, and matrix for linear light (ITU-R BT.2407).
_WIDE = {
    9: ("BT.2020", _BT2020_TO_BT709),
    11: ("DCI-P3", _P3_TO_BT709),
    12: ("Display P3", _P3_TO_BT709),
}

_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)

# Display light is relative to HDR reference white, 203 cd/m2 (ITU-R BT.2408), on a 1000 cd/m2
# display. That white maps to 0.87 in SDR, which leaves headroom for highlights: linear up to _KNEE,
# rolled off above.
_WHITE_NITS, _PEAK_NITS = 203.0, 1000.0
_EXPOSURE, _KNEE = 0.87, 0.8

# Gamma of the SDR reference display: ITU-R BT.1886.
_SDR_GAMMA = 2.4


@dataclass(frozen=True)
class ColourSpace:
    """The colour space of RGB pixels, as H.273 code points."""

    transfer: int = 2
    primaries: int = 2

    @property
    def is_plain(self) -> bool:
        """Whether a standard display shows the values without conversion."""
        return self.transfer not in (LINEAR, PQ, HLG) and self.primaries not in _WIDE

    def note(self) -> str:
        """Tells the user what `to_sdr` does; empty if it does nothing."""
        names = [{PQ: "HDR (PQ)", HLG: "HDR (HLG)", LINEAR: "linear light"}.get(self.transfer, "")]
        names.append(_WIDE[self.primaries][0] if self.primaries in _WIDE else "")
        found = " in ".join(name for name in names if name)
        if found:
            return f"Its colours are {found}; they are converted for a standard display."
        if self.transfer in _LOGARITHMIC:
            return "Its colours are logarithmic and used unchanged: they will look pale."
        return ""

    def to_sdr(self, pixels: Array) -> Array:
        """Convert uint16 RGB [H, W, 3] from this colour space to uint8 with sRGB primaries."""
        light = _to_light(self.transfer)[pixels]
        if self.transfer == HLG:  # scene light to display light at 1000 cd/m2
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
    """Composite uint8 or uint16 RGBA with straight alpha over white."""
    white = np.iinfo(pixels.dtype).max
    alpha = pixels[..., 3:].astype(np.float32) / white
    shown = pixels[..., :3] * alpha + white * (1 - alpha)
    return np.rint(shown).astype(pixels.dtype)


@cache
def _to_light(transfer: int) -> Array:
    """Lookup table from 65,536 levels to linear light; for HDR in the units above."""
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
    """A function from linear light to levels: the inverse curve, or the SDR curve for HDR."""
    if transfer in (LINEAR, SRGB):
        return lambda light: np.where(
            light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055
        )
    return lambda light: light ** (1 / _SDR_GAMMA)


def _rolled_off(light: Array) -> Array:
    """The factor that compresses light up to the peak to at most 1 and preserves the hue."""
    peak = (_PEAK_NITS / _WHITE_NITS * _EXPOSURE - _KNEE) / (1 - _KNEE)
    beyond = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    shown = _KNEE + (1 - _KNEE) * beyond * (1 + beyond / peak**2) / (1 + beyond)
    return np.where(light > _KNEE, shown / np.maximum(light, _KNEE), 1).astype(np.float32)
