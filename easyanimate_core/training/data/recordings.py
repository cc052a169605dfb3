"""Tells which clips were cut out of one recording, by their names and by how they look.

Neighbouring parts of a recording show the same place and people, however little their frames are
alike, so that a clip is only new to training if all parts of its recording are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...media import VIDEO_SUFFIXES
from ..preparation.duplicates import BITS, FRAMES, THRESHOLD
from .records import Record

#: Cells per side of a frame whose mean colours are compared.
CELLS = 4
_COLOURS = FRAMES * CELLS**2 * 3
#: Of evenly spaced frames, the perceptual hash and then the colours of the cells; empty if a clip
#: cannot be compared.
Look = list[int]

#: Looser than where duplicates are deleted: one clip too many costs little.
_NEAR = 2 * THRESHOLD
#: The largest difference of a cell's colour between copies, out of 255, and the smallest one within
#: a frame that says something, unlike a black one.
_SHADES, _PLAIN = 40, 12
#: Bits of a perceptual hash that a mirrored picture has the other way round: odd columns.
_MIRRORED = np.uint64(0x5555_5555_5555_5555)

#: Folders of clips as scene splitting names them: `bikes-mp4` for those of `bikes.mp4`.
_PREPARED = re.compile(rf".+-({'|'.join(suffix[1:] for suffix in VIDEO_SUFFIXES)})", re.IGNORECASE)
_PREPARED_CLIP = re.compile(r"\d{4,}\.mp4")
#: Clips as PySceneDetect's own program names them.
_SCENE = re.compile(r"(.+)-Scene-\d+")
_NUMBERED = re.compile(r"(.*\D|)(\d{1,9})")

Bits = np.ndarray[Any, np.dtype[np.bool_]]


def named_recording(file: Path) -> str:
    """The recording that a clip was cut out of, if its path says so for certain; otherwise ""."""
    if _PREPARED_CLIP.fullmatch(file.name) and _PREPARED.fullmatch(file.parent.name):
        return str(file.parent)
    scene = _SCENE.fullmatch(file.stem)
    if scene and file.suffix.lower() in VIDEO_SUFFIXES:
        return str(file.with_name(scene[1]))
    return ""


def checked(look: Look) -> Look:
    """The look, if it is one; raises `ValueError`."""
    hashes, colours = look[:FRAMES], look[FRAMES:]
    if len(colours) != _COLOURS or max(hashes) >= 2**BITS or max(colours) > 255 or min(look) < 0:
        raise ValueError("It is no look.")
    return look


@dataclass(frozen=True)
class Likeness:
    """Compares clips: their `looks`, with those that are `known`, and their contents."""

    identities: np.ndarray[Any, Any]
    known: Bits
    hashes: np.ndarray[Any, np.dtype[np.uint64]]
    colours: np.ndarray[Any, np.dtype[np.int16]]

    @classmethod
    def of(cls, records: Sequence[Record], looks: Sequence[Look]) -> Likeness:
        """The clips `records`, which look as in `looks`."""
        nothing = [0] * (FRAMES + _COLOURS)
        table = np.array([look or nothing for look in looks], np.uint64)
        return cls(
            np.array([record.identity for record in records]),
            np.array([bool(look) for look in looks], bool),
            table[:, :FRAMES],
            table[:, FRAMES:].astype(np.int16).reshape(-1, FRAMES, CELLS, CELLS, 3),
        )

    def copies(self, index: int) -> Bits:
        """Which clips are the same as `index` or nearly so, mirrored ones included."""
        same: Bits = self.identities == self.identities[index]
        if not self.known[index]:
            return same
        own, shades = self.hashes[index], self.colours[index]
        for hashes, colours in ((own, shades), (own ^ _MIRRORED, shades[:, :, ::-1])):
            near = np.bitwise_count(self.hashes ^ hashes).mean(1) <= _NEAR
            near &= self.known
            rows = np.flatnonzero(near)
            apart = abs(self.colours[rows] - colours).max((1, 2, 3, 4))
            same[rows[apart <= _SHADES]] = True
        return same

    def next_of(self, index: int) -> list[int]:
        """The clips that begin as `index` ends."""
        if not self.known[index] or np.ptp(self.colours[index, -1], (0, 1)).max() < _PLAIN:
            return []
        near = np.bitwise_count(self.hashes[:, 0] ^ self.hashes[index, -1]) <= _NEAR
        rows = np.flatnonzero(near & self.known)
        apart = abs(self.colours[rows, 0] - self.colours[index, -1]).max((1, 2, 3))
        return [int(row) for row in rows[apart <= _SHADES]]


def recordings_of(records: Sequence[Record], likeness: Likeness) -> np.ndarray[Any, Any]:
    """A number for each clip; clips of one recording have the same.

    They are those of one content, those whose names say it, those of which one begins as another
    ends, and those that are numbered alike if at least half of their neighbours do so.
    """
    moving = [index for index, record in enumerate(records) if record.frames > 1]
    following = {i: {j for j in likeness.next_of(i) if records[j].frames > 1} for i in moving}
    numbers = np.arange(len(records))
    for group in [
        *_alike([record.identity for record in records]),
        *_alike([record.recording for record in records]),
        *([first, *then] for first, then in following.items()),
        *_numbered(records, moving, following),
    ]:
        numbers[np.isin(numbers, numbers[group])] = numbers[group].min()
    return numbers


def _alike(keys: Sequence[str]) -> Iterator[list[int]]:
    """The indices of equal keys, several of each."""
    found = defaultdict[str, list[int]](list)
    for index, key in enumerate(keys):
        if key:
            found[key].append(index)
    return (group for group in found.values() if len(group) > 1)


def _numbered(
    records: Sequence[Record], moving: Sequence[int], following: dict[int, set[int]]
) -> Iterator[list[int]]:
    """Clips with the same name but for a number, most of which go on in the next one."""
    series = defaultdict[tuple[str, str, str], dict[int, int]](dict)
    for index in moving:
        path = PurePosixPath(records[index].name.replace("\\", "/"))
        if match := _NUMBERED.fullmatch(path.stem):
            series[str(path.parent), match[1], path.suffix][int(match[2])] = index
    for parts in series.values():
        pairs = [(part, parts[n + 1]) for n, part in parts.items() if n + 1 in parts]
        going_on = sum(then in following[part] for part, then in pairs)
        if going_on * 2 >= len(pairs) > 0:
            yield list(parts.values())
