"""Measures every file once and keeps those whose values are within limits."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import EasyAnimateError, InputError
from ...files.packages import command_for, is_installed, require
from ...media import write_json
from ...progress import Progress, silent
from . import pixels, writing
from .captions import captions_of
from .files import DataFile, find_files, records_of
from .journal import Journal
from .likeness import Likeness, check_clip, consistency, similarity
from .measures import MEASURES, Limit, Reason, Source, judge, limits_with
from .pool import each
from .results import Decision, Decisions, read_decisions

#: Frames per clip that CLIP sees.
_CLIP_FRAMES = 8


@dataclass(frozen=True)
class Measured:
    """`values` of a file by name, from `source`; `definition` identifies the method and network.

    A later record of the same source replaces an earlier one. `error` is why there are no values;
    `notes` list changes made to the pixels.
    """

    path: str
    identity: str
    source: str
    definition: str
    values: Mapping[str, float]
    error: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Measuring:
    """What to measure in addition to the pixels, and with what.

    `ocr` None means: if installed. `clip` is a folder with CLIP in transformers' format,
    `aesthetic_head` a file with LAION's linear layer for it.
    """

    ocr: bool | None = None
    clip: Path | None = None
    aesthetic_head: Path | None = None
    device: str = "auto"
    workers: int = 1


class Measurements:
    """The stored values of a dataset."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(records_of(folder) / "measures.jsonl", Measured)
        self._latest = {(r.path, r.source): r for r in self._journal.records}

    def add(self, measured: Measured) -> None:
        """Store a measurement."""
        self._journal.add(measured)
        self._latest[measured.path, measured.source] = measured

    def of(self, data: DataFile, source: Source) -> Measured | None:
        """The measurement of the file's current version by `source`."""
        found = self._latest.get((data.path, source.value))
        return found if found is not None and found.identity == data.identity else None

    def lacks(self, data: DataFile, source: Source, definition: str) -> bool:
        """Whether the file still has to be measured this way."""
        found = self.of(data, source)
        return found is None or found.definition != definition

    def values(self, data: DataFile) -> dict[str, float]:
        """All known values of the file."""
        known: dict[str, float] = {}
        for source in Source:
            found = self.of(data, source)
            known.update(found.values if found is not None else {})
        return known

    def error(self, data: DataFile) -> str:
        """Why the file cannot be read, empty if it can."""
        found = self.of(data, Source.PIXELS)
        return found.error if found is not None else ""

    def notes(self, data: DataFile) -> tuple[str, ...]:
        """The changes made to the file so that it looks as a player shows it."""
        found = self.of(data, Source.PIXELS)
        return () if found is None else tuple(found.notes)


def filter_files(
    folder: Path,
    limits: Mapping[str, Limit] | None = None,
    *,
    measuring: Measuring | None = None,
    progress: Progress = silent,
) -> Decisions:
    """Measure what has not been measured, and decide which files to keep.

    Values are stored, so new `limits` (others keep their defaults) are applied without measuring
    again. The decisions are written to preparation/decisions.json.

    Raises:
        InputError: There are no files, or a limit is set for a measure that cannot be taken.
    """
    measuring = measuring or Measuring()
    files = find_files(folder)
    changed = dict(limits or {})
    wanted = limits_with(changed)
    measurements = Measurements(folder)
    off = _unavailable(folder, measuring, measurements, files)
    for name in changed:
        if name in off:
            raise InputError(f"{name} has a limit but is not measured: {off[name]}.")
    measure_files(files, measurements, measuring.workers, progress)
    readable = [data for data in files if not measurements.error(data)]
    if "text" not in off:
        _measure_writing(readable, measurements, measuring.workers, progress)
    if measuring.clip is not None:
        _measure_likeness(folder, readable, measurements, measuring, progress)
    active = {name: limit for name, limit in wanted.items() if name not in off}
    decisions = Decisions(
        limits=active,
        off=off,
        files=tuple(_decide(d, measurements, active) for d in files),
        notes={d.path: notes for d in files if (notes := measurements.notes(d))},
    )
    write_json(records_of(folder) / "decisions.json", asdict(decisions))
    return read_decisions(folder)


def measure_files(
    files: list[DataFile], measurements: Measurements, workers: int, progress: Progress
) -> None:
    """Measure the pixels of every file that has not been measured yet."""
    _measure(files, measurements, (Source.PIXELS, pixels.DEFINITION), workers, progress)


def _measure_writing(
    files: list[DataFile], measurements: Measurements, workers: int, progress: Progress
) -> None:
    _measure(files, measurements, (Source.OCR, writing.DEFINITION), workers, progress)


_TAKEN_BY: Mapping[str, Callable[[DataFile], dict[str, float]]] = {
    Source.PIXELS: pixels.measure_pixels,
    Source.OCR: writing.measure_writing,
}


def _measure(
    files: list[DataFile],
    measurements: Measurements,
    how: tuple[Source, str],
    workers: int,
    progress: Progress,
) -> None:
    jobs = [data for data in files if measurements.lacks(data, *how)]
    function = functools.partial(_measured, *how)
    for measured in each(function, jobs, workers=workers, stage="measure", progress=progress):
        measurements.add(measured)


def _measured(source: Source, definition: str, data: DataFile) -> Measured:
    try:
        values, error = _TAKEN_BY[source](data), ""
        notes = pixels.notes_of(data) if source is Source.PIXELS else ()
    except EasyAnimateError as refused:
        values, error, notes = {}, str(refused), ()
    return Measured(data.path, data.identity, source.value, definition, values, error, notes)


def _measure_likeness(
    folder: Path,
    files: list[DataFile],
    measurements: Measurements,
    measuring: Measuring,
    progress: Progress,
) -> None:
    """Take CLIP's measures, in this process, so that the network is loaded once."""
    from ...memory.devices import pick_device

    assert measuring.clip is not None
    likeness = Likeness(measuring.clip, measuring.aesthetic_head, pick_device(measuring.device))
    texts = captions_of(folder, files)
    progress("likeness", 0, len(files))
    for done, data in enumerate(files, start=1):
        text = texts.get(data.path, "")
        definitions = _definitions(likeness, text)
        missing = [s for s, d in definitions.items() if measurements.lacks(data, s, d)]
        if missing:
            frames_FD = likeness.embed_frames(pixels.sample_frames(data, _CLIP_FRAMES))
            for source in missing:
                values = _likeness_values(source, likeness, frames_FD, text)
                measurements.add(
                    Measured(data.path, data.identity, source.value, definitions[source], values)
                )
        progress("likeness", done, len(files))


def _definitions(likeness: Likeness, text: str) -> dict[Source, str]:
    """The definitions of CLIP's measures: the network, and the text for similarity."""
    found = {Source.CLIP: likeness.identity}
    if likeness.head_identity:
        found[Source.AESTHETIC_HEAD] = f"{likeness.identity} {likeness.head_identity}"
    if text:
        found[Source.CAPTION] = f"{likeness.identity} {hashlib.sha256(text.encode()).hexdigest()}"
    return found


def _likeness_values(
    source: Source, likeness: Likeness, frames_FD: object, text: str
) -> dict[str, float]:
    from torch import Tensor

    assert isinstance(frames_FD, Tensor)
    if source is Source.CLIP:
        return {"consistency": consistency(frames_FD)}
    if source is Source.AESTHETIC_HEAD:
        return {"aesthetics": likeness.aesthetics(frames_FD)}
    return {"similarity": similarity(frames_FD, likeness.embed_text(text))}


def _unavailable(
    folder: Path, measuring: Measuring, measurements: Measurements, files: list[DataFile]
) -> dict[str, str]:
    """The measures that cannot be taken and have no stored values, with the reason."""
    if measuring.ocr:
        require("Measuring text", writing.PACKAGES)
    if measuring.clip is not None:
        check_clip(measuring.clip, measuring.aesthetic_head)
    elif measuring.aesthetic_head is not None:
        raise InputError(
            "An aesthetic head needs the CLIP that it was trained on; pass its folder (--clip)."
        )
    reasons = {}
    if measuring.ocr is False:
        reasons[Source.OCR] = "OCR is switched off"
    elif not all(map(is_installed, writing.PACKAGES)):
        reasons[Source.OCR] = f"no OCR is installed ({command_for(writing.PACKAGES)})"
    if measuring.clip is None:
        reasons |= dict.fromkeys(
            (Source.CLIP, Source.AESTHETIC_HEAD, Source.CAPTION), "no CLIP is given"
        )
    elif measuring.aesthetic_head is None:
        reasons[Source.AESTHETIC_HEAD] = "no aesthetic head is given"
    if measuring.clip is not None and not captions_of(folder, files):
        reasons[Source.CAPTION] = "there are no captions yet"
    return {
        name: reasons[measure.source]
        for name, measure in MEASURES.items()
        if measure.source in reasons
        and not any(measurements.of(data, measure.source) for data in files)
    }


def _decide(data: DataFile, measurements: Measurements, limits: Mapping[str, Limit]) -> Decision:
    error = measurements.error(data)
    if error:
        return Decision(data.path, data.identity, (Reason("unreadable", error),))
    return Decision(data.path, data.identity, judge(measurements.values(data), limits))
