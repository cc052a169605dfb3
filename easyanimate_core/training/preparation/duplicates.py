"""Near-duplicates: the same clip in another size, another encoding or another container."""

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

#: Frames of a clip that are compared, and bits of the hash of each.
FRAMES, BITS = 5, 64

#: Mean distance of the frames in bits up to which two clips are one.
THRESHOLD = 6.0


@dataclass(frozen=True)
class Hashed:
    """`hashes` of evenly spread frames, hexadecimal; `error` says why there are none."""

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
    """Drop near-duplicates among the files that the step filter kept, or among all before it.

    Of such files the one of the greatest resolution is kept, then the first by name. Compared are
    perceptual hashes of frames at the same shares of the length: a part cut out of a clip is no
    duplicate of it. The result is written to preparation/duplicates.json.

    Raises:
        InputError: There are no files, or the threshold is outside 0 to 32 bits.
    """
    require("Finding duplicates", ["imagehash"])
    if not 0 <= threshold <= BITS / 2:
        raise InputError(
            f"The threshold is {threshold}; it must be from 0 (equal) to {BITS // 2} bits, "
            "which is how far unrelated pictures are apart."
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
    """Each record that is within `threshold` of a better one that is kept."""
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
    """The perceptual hash of a frame, uint8 RGB [H, W, 3]: signs of its lowest frequencies."""
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
    """`FRAMES` of them: a picture, or a clip of fewer frames, repeats its own."""
    return [hashes[i * len(hashes) // FRAMES] for i in range(FRAMES)]
