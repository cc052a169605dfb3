"""Reads the original's metadata JSON, a list of file_path, text and type, as records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import InputError, MediaError
from ...files import (
    DATASET_BYTES,
    TEXT,
    check_fields,
    foreign_system,
    is_file,
    named_path,
    optional,
    path_below,
    read_json,
    short,
)
from ...media import (
    Fit,
    align_clip,
    damaged,
    ground_of_lines,
    read_facts,
    read_still,
    read_video,
    resize_cover,
    resize_lines,
)
from ...paths.camera import read_camera_file
from .records import Record, Sample, Shape

_KINDS = ("video", "image")
_RULES = {
    "control_file_path": optional(TEXT),
    "camera_file_path": optional(TEXT),
    "text": optional(TEXT),
}


def manifest_records(
    manifest: Path, root: Path | None, *, fps: float, report: Callable[[str], None]
) -> list[Record]:
    """Read a manifest and the headers of its files, but not their frames.

    An entry has `file_path`, `text` and `type` ("video" or "image"), and may have
    `control_file_path` and `camera_file_path`. Paths are relative to `root`, or to the manifest's
    folder. Clips are sampled at `fps`.

    Clips and images that cannot be read are left out and listed through `report`, as are the
    changes made to others so that they look as a player shows them.

    Raises:
        InputError: The manifest is missing or malformed, or a file that it names is missing.
        MediaError: None of the files can be read.
    """
    if not manifest.is_file():
        raise InputError(f"There is no manifest {manifest}. Write one with: prepare-data manifest.")
    entries = read_json(manifest, list, error=InputError, limit=DATASET_BYTES)
    if not entries:
        raise InputError(f"{manifest} must contain a list of at least one clip.")
    base = root or manifest.parent
    found = [_record_or_fault(entry, n, base, fps) for n, entry in enumerate(entries, start=1)]
    records = [record for record in found if isinstance(record, Record)]
    unreadable = [fault for fault in found if isinstance(fault, str)]
    if not records:
        raise MediaError(f"No file of {manifest} can be read. {unreadable[0]}")
    if unreadable:
        left_out = "\n  ".join(unreadable)
        report(
            f"{len(unreadable)} of {len(entries)} files of {manifest} cannot be read and are left "
            f"out:\n  {left_out}"
        )
    for record in records:
        for note in record.notes:
            report(f"{record.name}: {note}")
    return records


def _record_or_fault(entry: Any, number: int, base: Path, fps: float) -> Record | str:
    try:
        return _record(entry, number, base, fps)
    except MediaError as error:
        return str(error)


def _record(entry: Any, number: int, base: Path, fps: float) -> Record:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("file_path"), str):
        raise InputError(f"Entry {number} of the manifest is {short(entry)}; it needs a file_path.")
    check_fields(entry, _RULES, f"Entry {number} of the manifest", InputError)
    kind = entry.get("type", "video")
    if kind not in _KINDS:
        raise InputError(f"Entry {number}: type is {short(kind)}; it must be video or image.")
    names = ("file_path", "control_file_path", "camera_file_path")
    paths = {name: _place(entry[name], base, name, number) for name in names if entry.get(name)}
    if "file_path" not in paths:
        raise InputError(f"Entry {number} of the manifest has an empty file_path.")
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths.values()]
    if kind == "image":
        picture = read_still(paths["file_path"])
        height, width = picture.size
        frames, notes = 1, picture.notes
    else:
        facts = read_facts(paths["file_path"])
        height, width = facts.height, facts.width
        frames, notes = facts.frames_at(fps), facts.notes
    return Record(
        identity=repr(stamps),
        captions=(entry.get("text") or "",),
        frames=frames,
        height=height,
        width=width,
        load=partial(_load, paths, kind, fps),
        notes=notes,
        name=entry["file_path"],
    )


def _place(path: str, base: Path, name: str, number: int) -> Path:
    named_path(path, f"{name} of entry {number}", InputError)
    file = path_below(base, path)
    if not is_file(file):
        system = foreign_system(path)
        known = f" {path} is a {system} path: write it relative to {base}." if system else ""
        raise InputError(f"Entry {number}: {name} {file} does not exist.{known}")
    return file


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
