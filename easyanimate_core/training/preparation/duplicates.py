"""Near-duplicates: the same clip in another size, encoding or container."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...errors import EasyAnimateError, InputError
from ...files.packages import require
from ...media import write_json
from ...progress import Progress, silent
from .files import DataFile, find_files, records_of
from .journal import Journal
from .pixels import sample_frames
from .pool import each
from .results import Duplicate, Duplicates, filtered, read_duplicates

#: Frames that are compared per clip, and bits of each frame's hash.
FRAMES, BITS = 5, 64

#: Largest mean distance in bits per frame at which two clips are duplicates.
THRESHOLD = 6.0


@dataclass(frozen=True)
class Hashed:
    """Hexadecimal `hashes` of evenly spaced frames, or the `error` that prevented them."""

    path: str
    identity: str
    height: int
    width: int
    hashes: Sequence[str]
    error: str = ""


def deduplicate(
    folder: Path,
    *,
    threshold: float = THRESHOLD,
    workers: int = 1,
    progress: Progress = silent,
) -> Duplicates:
    """Drop near-duplicates among the files that the filter step kept, or among all without it.

    The file with the highest resolution is kept, then the first by name. Perceptual hashes are
    compared at the same relative positions: a part cut from a clip is not a duplicate of it. The
    result is written to preparation/duplicates.json.

    Raises:
        InputError: There are no files, or the threshold is outside 0 to 32 bits.
    """
    require("Finding duplicates", ["imagehash"])
    if not 0 <= threshold <= BITS / 2:
        raise InputError(
            f"The threshold is {threshold}; it must be from 0 (equal) to {BITS // 2} bits, "
            "the distance of unrelated images."
        )
    files = filtered(folder, find_files(folder))
    journal = Journal(records_of(folder) / "hashes.jsonl", Hashed)
    known = {(r.path, r.identity): r for r in journal.records}
    jobs = [data for data in files if (data.path, data.identity) not in known]
    for hashed in each(_hashed, jobs, workers=workers, stage="hash", progress=progress):
        journal.add(hashed)
        known[hashed.path, hashed.identity] = hashed
    records = [known[data.path, data.identity] for data in files]
    dropped: list[Duplicate] = []
    for kind in ("video", "image"):
        same = [r for r, data in zip(records, files, strict=True) if data.type == kind]
        dropped += find_duplicates([r for r in same if not r.error], threshold)
    compared = {data.path: data.identity for data in files}
    found = Duplicates(threshold, compared, tuple(sorted(dropped, key=lambda d: d.path)))
    write_json(records_of(folder) / "duplicates.json", asdict(found))
    return read_duplicates(folder)


def find_duplicates(records: Sequence[Hashed], threshold: float) -> list[Duplicate]:
    """The records within `threshold` of a better one that is kept."""
    ordered = sorted(records, key=lambda r: (-r.height * r.width, r.path))
    kept: list[Hashed] = []
    kept_KF = np.zeros((len(ordered), FRAMES), np.uint64)
    dropped = []
    for record in ordered:
        own_F = np.array(_spread([int(text, 16) for text in record.hashes]), np.uint64)
        distances_K = np.bitwise_count(kept_KF[: len(kept)] ^ own_F).mean(1)
        nearest = int(distances_K.argmin()) if kept else -1
        if kept and distances_K[nearest] <= threshold:
            distance = float(distances_K[nearest])
            dropped.append(Duplicate(record.path, kept[nearest].path, distance))
        else:
            kept_KF[len(kept)] = own_F
            kept.append(record)
    return dropped


def hash_of(frame: np.ndarray[Any, Any]) -> str:
    """The perceptual hash of a frame, uint8 RGB [H, W, 3]: signs of its low frequencies."""
    import imagehash

    return str(imagehash.phash(Image.fromarray(frame)))


def _hashed(data: DataFile) -> Hashed:
    function = functools.partial(Hashed, data.path, data.identity)
    try:
        frames = sample_frames(data, FRAMES)
    except EasyAnimateError as error:
        return function(0, 0, [], str(error))
    height, width = frames[0].shape[:2]
    return function(height, width, [hash_of(frame) for frame in frames])


def _spread(hashes: list[int]) -> list[int]:
    """Exactly `FRAMES` hashes: an image or a shorter clip repeats its own."""
    return [hashes[i * len(hashes) // FRAMES] for i in range(FRAMES)]
