"""Cuts long videos into clips of one scene each."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import EasyAnimateError, InputError
from ...files import Result, check_results, remove, write_error
from ...files.kinds import is_mp4
from ...files.packages import require
from ...media import open_mp4, stream_frames, write_json
from ...progress import Progress, silent
from .cuts import Cuts, Detection, find_cuts
from .files import find_videos, identity_of, records_of
from .journal import Journal
from .pool import each

CLIPS = "clips"


@dataclass(frozen=True)
class Splitting:
    """How to cut scenes into clips. Times are in seconds.

    `margin` is trimmed at each cut, where detectors are a frame off and encoders smear. A scene
    shorter than `min_seconds` is left out; one longer than `max_seconds` is divided into parts of
    equal length. `crf` is the quality of the clips, from 0 (lossless) to 51.
    """

    min_seconds: float = 2.0
    max_seconds: float = 10.0
    margin: float = 0.1
    crf: int = 18

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds <= self.max_seconds:
            raise InputError(
                f"Clips cannot take {self.min_seconds:g} to {self.max_seconds:g} seconds: the "
                "first number must be above 0 and at most the second."
            )
        if not 0 <= self.margin < self.min_seconds:
            raise InputError(
                f"The margin is {self.margin:g} seconds; it must be from 0 to below the shortest "
                f"clip's {self.min_seconds:g}."
            )
        if not 0 <= self.crf <= 51:
            raise InputError(f"crf is {self.crf}; it must be from 0 (lossless) to 51 (worst).")


@dataclass(frozen=True)
class Piece:
    """The frames of a source from `start` up to, but not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class CutRecord:
    """The cuts of a source, or why it cannot be read."""

    source: str
    identity: str
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    cuts: Sequence[int] = ()
    error: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class ClipsRecord:
    """The clips written from a source, as paths in the dataset."""

    source: str
    identity: str
    clips: Sequence[str]


@dataclass(frozen=True)
class SceneSummary:
    """`list_file` lists all scenes; `too_short` counts those that gave no clip.

    `notes` list the changes made so that sources look as a player shows them.
    """

    list_file: Path
    sources: int
    unreadable: tuple[str, ...]
    scenes: int
    clips: int
    too_short: int
    notes: tuple[str, ...] = ()


def pieces_of(found: Cuts | CutRecord, splitting: Splitting) -> list[list[Piece]]:
    """The clips of each scene, none if it is too short."""
    margin = round(splitting.margin * found.fps)
    borders = [0, *found.cuts, found.frames]
    pieces = []
    for start, end in pairwise(borders):
        first = start + margin if start > 0 else start
        last = end - margin if end < found.frames else end
        pieces.append(_parts(first, last, found.fps, splitting))
    return pieces


def split_scenes(
    videos: Path,
    out: Path,
    *,
    detection: Detection | None = None,
    splitting: Splitting | None = None,
    list_only: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> SceneSummary:
    """Find the scenes of `videos` (a file or a folder) and write them as clips to `out`/clips.

    Those of `bikes.mp4` go to `clips/bikes-mp4`. A second call continues where the first ended.
    Clips have their source's frame rate and no audio; a variable rate becomes a constant one that
    includes all frames. The last column or row of an odd width or height is cropped: H.264 needs
    even sides. `list_only` only writes the list, `out`/preparation/scenes.json.

    Raises:
        InputError: There are no videos, `out` was made with other settings or folder names, a file
            of another kind is in the way of a clip, or PySceneDetect is not installed.
    """
    require("Finding scenes", ["scenedetect"])
    detection, splitting = detection or Detection(), splitting or Splitting()
    sources = find_videos(videos)
    records = records_of(out)
    cuts = Journal(
        records / "cuts.jsonl",
        CutRecord,
        settings=asdict(detection),
        remedy="Use the same settings or another output folder.",
    )
    clips = Journal(
        records / "clips.jsonl",
        ClipsRecord,
        settings={**asdict(detection), **asdict(splitting)},
        remedy="Clips would be mixed: use the same settings or another output folder.",
    )
    if not list_only:
        _check_layout(clips)
    identities = {name: identity_of(file) for name, file in sources}
    _detect(sources, identities, cuts, detection, workers, progress)
    known = {r.source: r for r in cuts.records if identities.get(r.source) == r.identity}
    if not list_only:
        _write(sources, known, clips, splitting, (out, workers, progress))
    return _summary(out, known, splitting, written=not list_only)


def _check_layout(journal: Journal[ClipsRecord]) -> None:
    for record in journal.records:
        folder = f"{CLIPS}/{record.source}"
        listed = record.clips if isinstance(record.clips, list) else []
        if any(_is_clip_in(folder, path) for path in listed):
            raise InputError(
                f"{journal.path} lists clips in the folder {folder}, which programs take for a "
                f"video; the folder is named {folder_of(record.source)} now. Name another folder "
                "to write to. The other steps go on with the clips that are there."
            )


def _detect(
    sources: list[tuple[str, Path]],
    identities: dict[str, str],
    journal: Journal[CutRecord],
    detection: Detection,
    workers: int,
    progress: Progress,
) -> None:
    done = {(r.source, r.identity) for r in journal.records}
    jobs = [(n, f, identities[n]) for n, f in sources if (n, identities[n]) not in done]
    function = functools.partial(_cuts_of, detection)
    for record in each(function, jobs, workers=workers, stage="scenes", progress=progress):
        journal.add(record)


def _cuts_of(detection: Detection, job: tuple[str, Path, str]) -> CutRecord:
    name, file, identity = job
    try:
        found = find_cuts(file, detection)
    except EasyAnimateError as error:
        return CutRecord(name, identity, error=str(error))
    return CutRecord(name, identity, **asdict(found))


def _write(
    sources: list[tuple[str, Path]],
    known: dict[str, CutRecord],
    journal: Journal[ClipsRecord],
    splitting: Splitting,
    run: tuple[Path, int, Progress],
) -> None:
    out, workers, progress = run
    last = {record.source: record for record in journal.records}
    jobs = []
    for name, file in sources:
        record = known[name]
        if record.error or (name in last and last[name].identity == record.identity):
            continue
        for path in last[name].clips if name in last else ():  # of an earlier version of the source
            if _is_clip_in(folder_of(name), path):  # a journal is not trusted to delete other files
                _remove(out / path)
        jobs.append((file, record))
    clips = [out / path for _, record in jobs for path in clip_paths(record, splitting)]
    check_results(
        [Result(clip, "MP4 video", is_mp4) for clip in clips],
        sources=[file for _, file in sources],
        force=True,  # clips of a killed run are overwritten
    )
    function = functools.partial(_clips_of, out, splitting)
    for written in each(function, jobs, workers=workers, stage="clips", progress=progress):
        journal.add(written)


def _remove(clip: Path) -> None:
    try:
        remove(clip)
    except OSError as error:
        raise write_error(clip, error) from error


def _clips_of(out: Path, splitting: Splitting, job: tuple[Path, CutRecord]) -> ClipsRecord:
    file, record = job
    pieces = [piece for scene in pieces_of(record, splitting) for piece in scene]
    frames = stream_frames(file, threads=1, fps=record.fps)
    height, width = record.height // 2 * 2, record.width // 2 * 2
    paths = clip_paths(record, splitting)
    for piece, path in zip(pieces, paths, strict=True):
        with open_mp4(
            out / path,
            height=height,
            width=width,
            fps=record.fps,
            crf=splitting.crf,
            threads=1,
            spare=False,  # a spare file would count as another clip
        ) as add_frame:
            for frame in frames:
                if frame.number >= piece.start:
                    add_frame(np.ascontiguousarray(frame.pixels()[:height, :width]))
                if frame.number == piece.end - 1:
                    break
    return ClipsRecord(record.source, record.identity, tuple(paths))


def clip_paths(record: CutRecord, splitting: Splitting) -> list[str]:
    """The paths of a source's clips, in the order of its pieces."""
    num_pieces = sum(len(scene) for scene in pieces_of(record, splitting))
    folder = folder_of(record.source)
    return [f"{folder}/{number:04d}.mp4" for number in range(num_pieces)]


def folder_of(source: str) -> str:
    """The folder of a source's clips: `clips/day/bikes-mp4` for `day/bikes.mp4`.

    No program takes it for a video by its suffix, and no two sources share it.
    """
    path = PurePosixPath(source)
    return f"{CLIPS}/{path.with_name(f'{path.stem}-{path.suffix[1:]}')}"


def _is_clip_in(folder: str, path: object) -> bool:
    """Whether `clip_paths` could return this path for the folder."""
    return isinstance(path, str) and bool(re.fullmatch(rf"{re.escape(folder)}/\d{{4,}}\.mp4", path))


def _parts(first: int, last: int, fps: float, splitting: Splitting) -> list[Piece]:
    """Divide frames `first` up to `last` (exclusive) into equal parts within the limits."""
    length = last - first
    shortest = math.ceil(splitting.min_seconds * fps - 1e-6)
    longest = max(shortest, math.floor(splitting.max_seconds * fps + 1e-6))
    if length < shortest:
        return []
    parts = math.ceil(length / longest)
    if (
        length // parts < shortest
    ):  # equal parts would be too short: use full ones and drop the rest
        parts, length = parts - 1, (parts - 1) * longest
    borders = [first + round(i * length / parts) for i in range(parts + 1)]
    return [Piece(*borders_of) for borders_of in pairwise(borders)]


def _summary(
    out: Path, known: dict[str, CutRecord], splitting: Splitting, *, written: bool
) -> SceneSummary:
    rows, clips, too_short = [], 0, 0
    for record in sorted(known.values(), key=lambda record: record.source):
        if record.error:
            continue
        names = iter(clip_paths(record, splitting))
        borders = pairwise([0, *record.cuts, record.frames])
        for (start, end), pieces in zip(borders, pieces_of(record, splitting), strict=True):
            too_short += not pieces
            clips += len(pieces)
            rows.append(
                {
                    "source": record.source,
                    "start_frame": start,
                    "end_frame": end,
                    "start_seconds": round(start / record.fps, 3),
                    "end_seconds": round(end / record.fps, 3),
                    "clips": [
                        {"start_frame": piece.start, "end_frame": piece.end}
                        | ({"file_path": next(names)} if written else {})
                        for piece in pieces
                    ],
                }
            )
    list_file = write_json(records_of(out) / "scenes.json", rows)
    unreadable = tuple(record.error for record in known.values() if record.error)
    notes = tuple(f"{record.source}: {note}" for record in known.values() for note in record.notes)
    return SceneSummary(list_file, len(known), unreadable, len(rows), clips, too_short, notes)
