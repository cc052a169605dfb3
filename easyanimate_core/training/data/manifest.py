"""The original's metadata JSON as records: a list of file_path, text and type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...conditioning.camera import read_camera_file
from ...errors import InputError
from ...files import DATASET_BYTES, read_json
from ...media import Fit, align_clip, read_facts, read_image, read_video, resize_cover
from .records import Record, Sample, Shape

_KINDS = ("video", "image")


def manifest_records(manifest: Path, root: Path | None, *, fps: float) -> list[Record]:
    """Read a manifest; headers of the files are read, not their frames.

    An entry has `file_path`, `text` and `type` ("video" or "image"), and may have
    `control_file_path` and `camera_file_path`. Paths are relative to `root`, or to the manifest's
    folder. Clips are taken at `fps`.

    Raises:
        InputError: The manifest is missing or malformed, or a file it names is missing.
        MediaError: A file is damaged.
    """
    if not manifest.is_file():
        raise InputError(f"There is no manifest {manifest}; prepare-data manifest writes one.")
    entries = read_json(manifest, list, error=InputError, limit=DATASET_BYTES)
    if not entries:
        raise InputError(f"{manifest} must hold a list of at least one clip.")
    base = root or manifest.parent
    return [_record(entry, number, base, fps) for number, entry in enumerate(entries, start=1)]


def _record(entry: Any, number: int, base: Path, fps: float) -> Record:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("file_path"), str):
        raise InputError(f"Entry {number} of the manifest is {entry!r}; it needs a file_path.")
    kind = entry.get("type", "video")
    if kind not in _KINDS:
        raise InputError(f"Entry {number}: type is {kind!r}; it must be video or image.")
    paths = {
        name: base / entry[name]
        for name in ("file_path", "control_file_path", "camera_file_path")
        if entry.get(name)
    }
    for name, path in paths.items():
        if not path.is_file():
            raise InputError(f"Entry {number}: {name} {path} does not exist.")
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths.values()]
    if kind == "image":
        height, width = read_image(paths["file_path"]).shape[1:3]
        frames = 1
    else:
        facts = read_facts(paths["file_path"])
        height, width = facts.height, facts.width
        frames = facts.frames_at(fps)
    return Record(
        identity=repr(stamps),
        captions=(str(entry.get("text", "")),),
        frames=frames,
        height=height,
        width=width,
        load=partial(_load, paths, kind, fps),
    )


def _load(paths: Mapping[str, Path], kind: str, fps: float, shape: Shape) -> Sample:
    if kind == "image":
        picture = read_image(paths["file_path"])
        sample = Sample(resize_cover(picture, shape.height, shape.width))
    else:
        sample = Sample(_clip(paths["file_path"], fps, shape))
    if "control_file_path" in paths:
        control = _clip(paths["control_file_path"], fps, shape, keep_lines=True)
        sample = replace(sample, control=control)
    if "camera_file_path" in paths:
        sample = replace(
            sample, camera=read_camera_file(paths["camera_file_path"]).first(shape.frames)
        )
    return sample


def _clip(path: Path, fps: float, shape: Shape, *, keep_lines: bool = False) -> Any:
    fit = Fit(fps, (shape.height, shape.width), keep_lines=keep_lines)
    clip = read_video(path, max_seconds=shape.frames / fps, fit=fit)
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
