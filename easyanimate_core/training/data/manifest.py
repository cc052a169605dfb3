"""Reads the original's metadata JSON, a list of file_path, text and type, as records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import EasyAnimateError, InputError, MediaError, counted
from ...files import (
    DATASET_BYTES,
    TEXT,
    check_fields,
    foreign_system,
    is_file,
    named_path,
    one_of,
    optional,
    path_below,
    read_json,
    short,
    whole,
)
from ...media import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Fit,
    NotAPictureError,
    PictureFacts,
    VideoFacts,
    align_clip,
    damaged,
    ground_of_lines,
    picture_facts,
    read_facts,
    read_still,
    read_video,
    resize_cover,
    resize_lines,
)
from ...paths.camera import read_camera_file
from ...progress import Progress, silent
from .cache import digest, digest_of_media
from .dropped import Dropped
from .kohya import MOST_REPEATS, numbered_folder
from .recordings import named_recording
from .records import Record, Sample, Shape
from .texts import caption_beside, caption_in, path_in, some, text_in
from .threads import in_threads

_KINDS = ("video", "image")
_RULES = {
    "type": one_of(*_KINDS),
    "control_file_path": optional(TEXT),
    "camera_file_path": optional(TEXT),
    "repeats": whole(1, MOST_REPEATS),
}
_PATHS = ("file_path", "control_file_path", "camera_file_path")
#: How many faults an error lists.
_SHOWN = 3


@dataclass(frozen=True)
class _Entry:
    """A valid entry; `kind` is empty where the file decides."""

    number: int
    name: str
    paths: Mapping[str, Path]
    kind: str
    text: str
    repeats: int
    is_counted: bool

    @property
    def file(self) -> Path:
        return self.paths["file_path"]


def manifest_records(
    manifest: Path,
    root: Path | None,
    *,
    fps: float,
    report: Callable[[str], None],
    progress: Progress = silent,
    captioned: bool = True,
    dropped: Dropped | None = None,
) -> list[Record]:
    """Read a manifest and the headers of its files, but not their frames.

    An entry has `file_path` and, if `captioned`, `text`. It may have `type` ("video" or "image"),
    `control_file_path`, `camera_file_path` and `repeats`. Paths are relative to `root`, or to the
    manifest's folder. Clips are sampled at `fps`. Reports the stage "read".

    Clips and images that are missing or cannot be read are left out and listed through `report`, as
    are the changes made to others so that they look as a player shows them, files that are named
    twice, and caption files that say something else. `dropped` keeps the names of the former.

    Raises:
        InputError: The manifest is missing or malformed, or none of its files exists.
        MediaError: None of the files can be read.
    """
    if not manifest.is_file():
        raise InputError(f"There is no manifest {manifest}. Write one with: prepare-data manifest.")
    values = read_json(manifest, list, error=InputError, limit=DATASET_BYTES)
    if not values:
        raise InputError(f"{manifest} must contain a list of at least one clip.")
    base = root or manifest.parent
    entries = _entries(values, base, captioned=captioned)
    found = in_threads(partial(_record_or_fault, base, fps), entries, "read", progress)
    records = [record for record in found if isinstance(record, Record)]
    faults = [fault for fault in found if isinstance(fault, _Fault)]
    missing = [fault for fault in faults if fault.is_missing]
    unreadable = [fault for fault in faults if not fault.is_missing]
    if not records and not unreadable:
        raise InputError(
            f"None of the {counted(len(missing), 'file')} of {manifest} exists. {missing[0].text} "
            f"Paths are relative to {base}; another folder is set as data.root."
        )
    if not records:
        raise MediaError(f"No file of {manifest} can be read. {unreadable[0].text}")
    dropped = dropped or Dropped(report)
    of = f"of {len(entries)} files of {manifest}"
    for own, what in ((missing, "cannot be found"), (unreadable, "cannot be read")):
        dropped.add([f.name for f in own], [f.text for f in own], f"{of} {what}")
    for line in [*_notes(records), *_repeated(records), *_uncounted(entries)]:
        report(line)
    if captioned:
        for line in _stale(manifest, entries):
            report(line)
    return records


def _entries(values: list[Any], base: Path, *, captioned: bool) -> list[_Entry]:
    """The entries of a manifest; raises `InputError` with the first faults."""
    made = [_entry_or_fault(v, n, base, captioned=captioned) for n, v in enumerate(values, start=1)]
    faults = [entry for entry in made if isinstance(entry, str)]
    if faults:
        more = len(faults) - _SHOWN
        raise InputError(
            "\n".join(faults[:_SHOWN]) + (f"\nand {more} more entries" if more > 0 else "")
        )
    return [entry for entry in made if isinstance(entry, _Entry)]


def _entry_or_fault(value: Any, number: int, base: Path, *, captioned: bool) -> _Entry | str:
    try:
        return _entry(value, number, base, captioned=captioned)
    except InputError as error:
        return str(error)


def _entry(value: Any, number: int, base: Path, *, captioned: bool) -> _Entry:
    where = f"Entry {number} of the manifest"
    name = path_in(value, where)
    if not name:
        raise InputError(f"{where} has an empty file_path.")
    where += f" ({short(name)[1:-1]})"
    check_fields(value, _RULES, where, InputError)
    text = text_in(value, where) if captioned else ""
    return _Entry(
        number,
        name,
        {
            key: _place(value[key], base, f"{key} of entry {number}")
            for key in _PATHS
            if value.get(key)
        },
        value.get("type", ""),
        text,
        value.get("repeats", 1),
        "repeats" in value,
    )


@dataclass(frozen=True)
class _Fault:
    """Why the file of an entry cannot be used."""

    name: str
    text: str
    is_missing: bool = False


def _record_or_fault(base: Path, fps: float, entry: _Entry) -> Record | _Fault:
    for key, file in entry.paths.items():
        if not is_file(file):
            text = f"Entry {entry.number}: {key} {file} does not exist.{_foreign(entry.name, base)}"
            return _Fault(entry.name, text, is_missing=True)
    try:
        return _record(entry, fps)
    except OSError as error:
        return _Fault(entry.name, f"{entry.file} cannot be read: {error.strerror or error}.")
    except MediaError as error:
        other = "video" if entry.kind == "image" else "image"
        is_other = entry.file.suffix.lower() in _SUFFIXES[other] and bool(entry.kind)
        remedy = f' Its type is "{entry.kind}"; write "{other}".' if is_other else ""
        return _Fault(entry.name, f"{error}{remedy}")


def _foreign(path: str, base: Path) -> str:
    system = foreign_system(path)
    return f" {path} is a {system} path: write it relative to {base}." if system else ""


_SUFFIXES = {"video": VIDEO_SUFFIXES, "image": PICTURE_SUFFIXES}


def _record(entry: _Entry, fps: float) -> Record:
    kind, facts = _facts(entry)
    content = [(name, digest_of_media(path)) for name, path in entry.paths.items()]
    frames, seconds, span, notes = 1, 0.0, None, facts.notes
    own_fps, is_even = 0.0, True
    if isinstance(facts, VideoFacts):
        frames, seconds = facts.frames_at(fps), facts.seconds
        own_fps, is_even = facts.fps, facts.is_even
        span = _span(entry.paths, fps)
    if span is not None and span < frames - 1:
        notes = (
            *notes,
            f"what lies beside it ends after {span} of its {frames} frames; only those are trained "
            "on.",
        )
    return Record(
        identity=digest(kind, fps if kind == "video" else 0.0, content),
        captions=(entry.text,),
        frames=frames,
        height=facts.height,
        width=facts.width,
        load=partial(_load, entry.paths, kind, fps),
        notes=notes,
        name=entry.name,
        seconds=seconds,
        repeats=entry.repeats,
        span=span,
        recording=named_recording(entry.file) if kind == "video" else "",
        fps=own_fps,
        is_even=is_even,
    )


def _span(paths: Mapping[str, Path], fps: float) -> int | None:
    """Over how many frames a clip's control video and camera path extend; None without them."""
    lengths = []
    try:
        if "control_file_path" in paths:
            lengths.append(read_facts(paths["control_file_path"]).frames_at(fps))
        if "camera_file_path" in paths:
            lengths.append(len(read_camera_file(paths["camera_file_path"])))
    except EasyAnimateError:
        return None  # told by whoever reads it
    return min(lengths, default=None)


def _facts(entry: _Entry) -> tuple[str, PictureFacts | VideoFacts]:
    """The kind of the file, if the entry does not say, and what its header says."""
    if entry.kind == "image":
        return "image", picture_facts(entry.file)
    if not entry.kind and entry.file.suffix.lower() in PICTURE_SUFFIXES:
        try:
            return "image", picture_facts(entry.file)
        except NotAPictureError:  # an animation
            pass
    return "video", read_facts(entry.file)


def _notes(records: list[Record]) -> Iterator[str]:
    """The changes made to files, each once, with the files that have it."""
    names: dict[str, list[str]] = {}
    for record in records:
        for note in record.notes:
            names.setdefault(note, []).append(record.name)
    return (f"{some(own)}: {note}" for note, own in names.items())


def _repeated(records: list[Record]) -> list[str]:
    """A line about entries whose file an earlier entry has too, under whatever name."""
    first: dict[str, str] = {}
    again = [
        f"{record.name} (as {first[record.identity]})"
        for record in records
        if first.setdefault(record.identity, record.name) is not record.name
    ]
    if not again:
        return []
    return [
        f"{len(again)} of {len(records)} entries repeat the file of another, so it is drawn that "
        f"much more often: {some(again)}."
    ]


def _uncounted(entries: list[_Entry]) -> list[str]:
    """A line about folders whose names say repeats, where the entries do not."""
    folders = dict(
        found for e in entries if not e.is_counted and (found := numbered_folder(e.name))
    )
    if all(repeats == 1 for repeats in folders.values()):
        return []
    return [
        f"Folders are named as for kohya's repeats ({some(list(folders))}), but the entries have "
        "no repeats, so each file is drawn once per epoch. prepare-data manifest writes them, or "
        'add "repeats": 10 to an entry.'
    ]


def _stale(manifest: Path, entries: list[_Entry]) -> list[str]:
    """A line about caption files beside pictures and clips that the manifest does not follow."""
    texts: dict[Path, list[str]] = {}
    for entry in entries:
        texts.setdefault(entry.file, []).append(entry.text.strip())
    others = {entry.paths.get("camera_file_path") for entry in entries}
    differ = []
    for file, own in texts.items():
        try:
            beside = caption_beside(file)
            said = "" if beside is None or beside in others else caption_in(beside)
        except InputError:
            continue
        if beside is not None and said and said not in own:
            differ.append(f"{beside.name} has {short(said)}, the manifest {short(own[0])}")
    if not differ:
        return []
    return [
        f"{manifest} has another text than {counted(len(differ), 'caption file')} beside the "
        f"clips, and its texts are trained: {some(differ)}. To train the files' texts, write the "
        "manifest again: prepare-data caption DATA --from DATA, then prepare-data manifest."
    ]


def _place(path: str, base: Path, name: str) -> Path:
    named_path(path, name, InputError)
    return path_below(base, path)


def _load(paths: Mapping[str, Path], kind: str, fps: float, shape: Shape, start: int = 0) -> Sample:
    read = _picture if kind == "image" else partial(_clip, fps, start)
    sample = Sample(read(paths["file_path"], shape))
    if "control_file_path" in paths:
        sample = replace(sample, control=read(paths["control_file_path"], shape, keep_lines=True))
    if "camera_file_path" in paths:
        camera = read_camera_file(paths["camera_file_path"]).part(start, shape.frames)
        sample = replace(sample, camera=camera)
    return sample


def _picture(path: Path, shape: Shape, *, keep_lines: bool = False) -> Any:
    picture = read_still(path).frames
    size = (shape.height, shape.width)
    ground = ground_of_lines(picture, *size) if keep_lines else None
    return resize_cover(picture, *size) if ground is None else resize_lines(picture, *size, ground)


def _clip(fps: float, start: int, path: Path, shape: Shape, *, keep_lines: bool = False) -> Any:
    fit = Fit(fps, (shape.height, shape.width), keep_lines=keep_lines)
    clip = read_video(path, start=start / fps, max_seconds=shape.frames / fps, fit=fit)
    if clip.is_damaged:
        raise damaged(path)
    aligned = align_clip(
        clip,
        height=shape.height,
        width=shape.width,
        frames=shape.frames,
        fps=fps,
        short="repeat",
        keep_lines=keep_lines,
    )
    return aligned.frames
