"""Takes clips out of training to measure it on clips that it has not seen.

They are chosen by content, not by name or order, so that the same ones are held out when files are
renamed. Copies and near-duplicates of a clip leave training with it, and so do the other clips of
its recording.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import EasyAnimateError, MediaError, counted
from ...files import atomic_file, read_json
from ...media import to_bytes
from ..preparation.duplicates import BITS, FRAMES, hash_of
from .cache import digest, tell_once
from .recordings import CELLS, Likeness, Look, checked, recordings_of
from .records import Record, Shape
from .texts import some

#: Training keeps three quarters of its clips at least.
_SHARE = 4
#: Side in pixels at which clips are compared.
_SIDE = 64
_SHOWN = 10


@dataclass(frozen=True)
class Split:
    """`held_out` and what stays in training.

    In neither are `copies`, which are like one held out, and `neighbours`, other clips of their
    recordings. If these could not be left out, `is_apart` is false.
    """

    records: list[Record]
    held_out: list[Record]
    copies: list[Record]
    neighbours: list[Record]
    is_apart: bool = True

    @property
    def line(self) -> str:
        """What the user is told."""
        told = (
            f"Validation measures {counted(len(self.held_out), 'clip')} that training does not "
            f"see: {_names(self.held_out)}."
        )
        if not self.is_apart:
            told += (
                " Training sees other clips of the same recordings, because leaving these out "
                "would take more than a quarter of the data. For a figure of new recordings, set "
                "validation.manifest."
            )
        if self.copies:
            told += f" Near-duplicates of them are left out of training: {_names(self.copies)}."
        if self.neighbours:
            told += (
                " Other clips of the same recordings are left out of training: "
                f"{_names(self.neighbours)}."
            )
        return told


def split(records: Sequence[Record], looks: Sequence[Look], wanted: int) -> Split:
    """Hold out `wanted` clips, or as many as leave training three quarters.

    If every recording is more than a quarter of the clips, some clips of one are held out.
    """
    likeness = Likeness.of(records, looks)
    numbers = recordings_of(records, likeness)
    known = [
        replace(record, recording=str(number))
        for record, number in zip(records, numbers, strict=True)
    ]
    room = len(records) // _SHARE
    apart = np.arange(len(records))
    for own, most in ((numbers, room // wanted), (numbers, room), (apart, room)):
        chosen, gone = _chosen(likeness, own, wanted, max(most, 1) if room else 0, room)
        if chosen:
            break
    copied = np.any([likeness.copies(index) for index in chosen], 0) if chosen else gone
    left = [int(index) for index in np.flatnonzero(gone) if index not in chosen]
    return Split(
        [record for record, is_gone in zip(known, gone, strict=True) if not is_gone],
        [known[index] for index in chosen],
        [known[index] for index in left if copied[index]],
        [known[index] for index in left if not copied[index]],
        is_apart=own is numbers,
    )


def _chosen(
    likeness: Likeness, numbers: np.ndarray[Any, Any], wanted: int, most: int, room: int
) -> tuple[list[int], np.ndarray[Any, Any]]:
    """The clips to hold out, and which ones leave training: `room` in all, `most` for each."""
    chosen, gone = list[int](), np.zeros(len(numbers), bool)
    order = sorted(
        range(len(numbers)), key=lambda index: digest("held out", likeness.identities[index])
    )
    for index in order:
        if len(chosen) == wanted or not room:
            break
        if gone[index]:
            continue
        leaving = np.isin(numbers, numbers[likeness.copies(index)]) & ~gone
        if leaving.sum() > min(most, room):
            continue
        gone |= leaving
        room -= int(leaving.sum())
        # A recording that has to leave anyway gives as many of its clips as it can.
        free = leaving & (numbers == numbers[index])
        for part in order:
            if free[part] and len(chosen) < wanted:
                chosen.append(part)
                free &= ~likeness.copies(part)
    return chosen, gone


def are_trained(records: Sequence[Record], held_out: Sequence[Record]) -> bool:
    """Whether one of the clips that validation measures is trained on."""
    return not {r.identity for r in records}.isdisjoint(r.identity for r in held_out)


def are_near(records: Sequence[Record], held_out: Sequence[Record]) -> bool:
    """Whether one of the clips that validation measures is of a recording that is trained on."""
    known = {record.recording for record in records} - {""}
    return not known.isdisjoint(record.recording for record in held_out)


def measure_name(name: str, records: Sequence[Record], held_out: Sequence[Record]) -> str:
    """The name of a measure, which tells if what it is taken on is trained on."""
    if are_trained(records, held_out):
        return f"{name}_of_trained_clips"
    return f"{name}_of_trained_recordings" if are_near(records, held_out) else name


@dataclass(frozen=True)
class Looks:
    """How clips look, remembered in the folder `kept` by their content."""

    kept: Path

    def of(self, record: Record) -> Look:
        """The hashes of a clip, read only if they are not known."""
        name = digest(record.identity, FRAMES, _SIDE, CELLS, BITS)
        file = self.kept / name[:2] / f"{name}.json"
        if file.is_file():
            try:
                return checked([int(text, 16) for text in read_json(file, list, error=MediaError)])
            except (MediaError, ValueError, TypeError):
                pass  # damaged: looked at again
        look = _look_of(record)
        if not look:
            return look
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
    cell = _SIDE // CELLS
    cells = [frame.reshape(CELLS, cell, CELLS, cell, 3).mean((1, 3)).round() for frame in frames]
    hashes = [int(hash_of(frame), 16) for frame in frames]
    return hashes + [int(value) for value in np.ravel(cells)]


def _names(records: Sequence[Record]) -> str:
    return some([record.name or record.captions[0] for record in records], _SHOWN)
