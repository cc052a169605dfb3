"""Takes clips out of training to measure it on clips that it has not seen.

They are chosen by content, not by name or order, so that the same ones are held out when files are
renamed. Copies and near-duplicates of a clip leave training with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import EasyAnimateError, MediaError, counted
from ...files import atomic_file, read_json
from ...media import to_bytes
from ..preparation.duplicates import BITS, FRAMES, THRESHOLD, hash_of
from .cache import digest, tell_once
from .records import Record, Shape
from .texts import some

#: Training keeps three quarters of its clips at least.
_SHARE = 4
#: Side in pixels at which clips are compared.
_SIDE = 64
#: Looser than where duplicates are deleted: one clip too many costs little.
_NEAR = 2 * THRESHOLD
_SHOWN = 10

#: Cells per side whose mean colours are compared, and their largest difference, out of 255.
_CELLS, _SHADES = 4, 40

#: Of evenly spaced frames, the perceptual hash and then the colours of the cells; empty if a clip
#: cannot be compared.
Look = list[int]


@dataclass(frozen=True)
class Split:
    """`held_out` and what stays in training; `copies` are in neither, being like one held out."""

    records: list[Record]
    held_out: list[Record]
    copies: list[Record]

    @property
    def line(self) -> str:
        """What the user is told."""
        told = (
            f"Validation measures {counted(len(self.held_out), 'clip')} that training does not "
            f"see: {_names(self.held_out)}."
        )
        if self.copies:
            told += f" Near-duplicates of them are left out of training: {_names(self.copies)}."
        return told


def split(records: Sequence[Record], looks: Sequence[Look], wanted: int) -> Split:
    """Hold out `wanted` clips, or as many as leave training three quarters."""
    room = len(records) // _SHARE
    nothing = [0] * (FRAMES + FRAMES * _CELLS**2 * 3)
    table = np.array([look or nothing for look in looks], np.uint64)
    hashes, colours = table[:, :FRAMES], table[:, FRAMES:].astype(np.int16)
    is_known = np.array([bool(look) for look in looks], bool)
    identities = np.array([record.identity for record in records])
    chosen, gone = list[int](), np.zeros(len(records), bool)
    for index in sorted(range(len(records)), key=lambda i: digest("held out", identities[i])):
        if len(chosen) == wanted or not room:
            break
        alike = identities == identities[index]
        if is_known[index]:
            near = np.bitwise_count(hashes ^ hashes[index]).mean(1) <= _NEAR
            alike |= is_known & near & (abs(colours - colours[index]).max(1) <= _SHADES)
        alike &= ~gone
        if gone[index] or alike.sum() > room:
            continue
        chosen.append(index)
        gone |= alike
        room -= int(alike.sum())
    held = set(chosen)
    return Split(
        [record for record, is_gone in zip(records, gone, strict=True) if not is_gone],
        [records[index] for index in chosen],
        [records[int(index)] for index in np.flatnonzero(gone) if index not in held],
    )


def are_trained(records: Sequence[Record], held_out: Sequence[Record]) -> bool:
    """Whether one of the clips that validation measures is trained on."""
    return not {r.identity for r in records}.isdisjoint(r.identity for r in held_out)


def measure_name(name: str, records: Sequence[Record], held_out: Sequence[Record]) -> str:
    """The name of a measure, which tells if it is taken on clips that are trained on."""
    return f"{name}_of_trained_clips" if are_trained(records, held_out) else name


@dataclass(frozen=True)
class Looks:
    """How clips look, remembered in the folder `kept` by their content."""

    kept: Path

    def of(self, record: Record) -> Look:
        """The hashes of a clip, read only if they are not known."""
        name = digest(record.identity, FRAMES, _SIDE, _CELLS, BITS)
        file = self.kept / name[:2] / f"{name}.json"
        if file.is_file():
            try:
                return [int(text, 16) for text in read_json(file, list, error=MediaError)]
            except (MediaError, ValueError, TypeError):
                pass  # damaged: looked at again
        look = _look_of(record)
        try:
            with atomic_file(file, spare=False) as scratch:
                scratch.write_text(json.dumps([f"{value:x}" for value in look]), encoding="utf-8")
        except MediaError:
            tell_once(self.kept, "is compared again by the next run")
        return look


def _look_of(record: Record) -> Look:
    starts = [(record.frames - 1) * i // (FRAMES - 1) for i in range(FRAMES)]
    shape = Shape(1, _SIDE, _SIDE)
    try:
        samples = {start: record.load(shape, start) for start in dict.fromkeys(starts)}
    except EasyAnimateError:
        return []
    frames = [to_bytes(samples[start].frames[0]) for start in starts]
    cell = _SIDE // _CELLS
    cells = [frame.reshape(_CELLS, cell, _CELLS, cell, 3).mean((1, 3)).round() for frame in frames]
    hashes = [int(hash_of(frame), 16) for frame in frames]
    return hashes + [int(value) for value in np.ravel(cells)]


def _names(records: Sequence[Record]) -> str:
    return some([record.name or record.captions[0] for record in records], _SHOWN)
