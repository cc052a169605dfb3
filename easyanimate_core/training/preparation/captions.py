"""The text of every file: from a vision-language model, or from given files."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MediaError
from ...files import DATASET_BYTES, json_value, parts_of, read_text
from ...progress import Progress, silent
from .caption_model import Captioning, CaptionModel, check_model
from .files import DataFile, find_files, records_of, some
from .journal import Journal
from .pixels import notes_of, sample_frames
from .results import remaining

#: `by` of a caption that was read from a file.
GIVEN = "given"


@dataclass(frozen=True)
class Caption:
    """`by` is the caption's source: "given", or the model with a digest of the prompt."""

    path: str
    identity: str
    by: str
    text: str


@dataclass(frozen=True)
class CaptionSummary:
    """How many captions were added, and how many files have none.

    `unreadable` maps files that were left out to the reason; `notes` list the changes made to
    others so that the model sees them as a player shows them.
    """

    added: int
    without: int
    unreadable: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def captions_of(folder: Path, files: Iterable[DataFile]) -> dict[str, str]:
    """The texts of the files that have one, by path."""
    latest = {path: caption.text for path, caption in _latest(_journal(folder), files).items()}
    return {path: text for path, text in latest.items() if text}


def caption_files(
    folder: Path,
    model: Path,
    captioning: Captioning | None = None,
    *,
    replace: bool = False,
    progress: Progress = silent,
) -> CaptionSummary:
    """Caption the files kept by filter and deduplicate that have none, with a model.

    Captions from the same model and prompt are kept, and so are those read from a file; `replace`
    regenerates all others.

    Raises:
        InputError: The folder contains no such model, or there are captions from another model or
            prompt and `replace` is not set.
    """
    captioning = captioning or Captioning()
    check_model(model)
    files = remaining(folder, find_files(folder))
    journal = _journal(folder)
    by = f"{model.name} {_digest(captioning)}"
    latest = _latest(journal, files)
    others = [path for path, caption in latest.items() if caption.by not in (by, GIVEN)]
    if others and not replace:
        raise InputError(
            f"{len(others)} files have captions from another model or prompt: {some(others)}. Use "
            "the same again, or replace them (--replace)."
        )
    jobs = [d for d in files if d.path not in latest or (replace and latest[d.path].by != by)]
    done, unreadable, notes = 0, dict[str, str](), dict[str, Sequence[str]]()
    progress("caption", 0, len(jobs))
    captioner = CaptionModel(model, captioning) if jobs else None
    for batch in _batches(jobs, captioning.batch):
        assert captioner is not None
        read = [(data, _frames_of(data, captioning.frames, unreadable)) for data in batch]
        shown = [(data, frames) for data, frames in read if frames is not None]
        notes |= {data.path: said for data, _ in shown if (said := notes_of(data))}
        texts = captioner(shown) if shown else []
        for (data, _), text in zip(shown, texts, strict=True):
            journal.add(Caption(data.path, data.identity, by, text))
        done += len(batch)
        progress("caption", done, len(jobs))
    return CaptionSummary(len(jobs) - len(unreadable), _without(folder, files), unreadable, notes)


def _frames_of(
    data: DataFile, count: int, unreadable: dict[str, str]
) -> list[np.ndarray[Any, Any]] | None:
    """The frames to show, or None if the file cannot be read, which `unreadable` records."""
    try:
        return sample_frames(data, count)
    except MediaError as error:
        unreadable[data.path] = str(error)
        return None


def read_captions(folder: Path, source: Path) -> CaptionSummary:
    """Read captions from a file, or from a folder of text files.

    A .json contains a list of {"file_path", "text"} or an object that maps paths to texts; a .csv
    has the columns file_path and text; in a folder, clips/a.txt is the text of clips/a.mp4 (and
    may be next to the clip itself). Paths are relative to the dataset.

    Unreadable files of a folder are left out and listed in the summary.

    Raises:
        InputError: The source is unreadable, or names files that are not in the dataset.
    """
    files = find_files(folder)
    unreadable: dict[str, str] = {}
    by_path = {data.path: data for data in files}
    texts = _by_paths_here(_texts_of(source, files, unreadable), by_path)
    unknown = [path for path in texts if path not in by_path]
    if unknown:
        raise InputError(
            f"{source} has captions for {len(unknown)} files that are not in {folder}: "
            f"{some(unknown)}. Write paths like {files[0].path}."
        )
    if not texts:
        said = "".join(f" {fault}" for fault in list(unreadable.values())[:1])
        raise InputError(f"{source} has no captions for the files of {folder}.{said}")
    empty = [path for path, text in texts.items() if not text.strip()]
    if empty:
        raise InputError(
            f"{source} has an empty text for {some(empty)}. Write one, or leave the file out."
        )
    journal = _journal(folder)
    latest = _latest(journal, files)
    added = 0
    for path, text in texts.items():
        caption = Caption(path, by_path[path].identity, GIVEN, text.strip())
        if latest.get(path) != caption:
            journal.add(caption)
            added += 1
    return CaptionSummary(added, _without(folder, files), unreadable)


def _journal(folder: Path) -> Journal[Caption]:
    return Journal(records_of(folder) / "captions.jsonl", Caption)


def _latest(journal: Journal[Caption], files: Iterable[DataFile]) -> dict[str, Caption]:
    identities = {data.path: data.identity for data in files}
    return {c.path: c for c in journal.records if identities.get(c.path) == c.identity}


def _without(folder: Path, files: list[DataFile]) -> int:
    return len(files) - len(captions_of(folder, files))


def _digest(captioning: Captioning) -> str:
    asked = json.dumps([captioning.prompt, captioning.frames, captioning.max_tokens])
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def _batches(files: Sequence[DataFile], size: int) -> Iterator[list[DataFile]]:
    left = iter(files)
    while batch := list(islice(left, size)):
        yield batch


def _texts_of(source: Path, files: list[DataFile], unreadable: dict[str, str]) -> Mapping[str, str]:
    if source.is_dir():
        beside = {data.path: (source / data.path).with_suffix(".txt") for data in files}
        found = {path: _text_of(file) for path, file in beside.items() if file.is_file()}
        unreadable |= {path: str(t) for path, t in found.items() if isinstance(t, InputError)}
        return {path: text for path, text in found.items() if isinstance(text, str)}
    if source.suffix.lower() == ".json":
        try:
            return _texts_of_json(json_value(_read(source), object, str(source), error=InputError))
        except InputError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'{source} must contain a list of {{"file_path", "text"}} or an object that maps '
                f"paths to texts ({error!r})."
            ) from error
    if source.suffix.lower() == ".csv":
        try:
            rows = list(csv.DictReader(_read(source).splitlines(keepends=True)))
        except csv.Error as error:
            raise InputError(f"{source} is not valid CSV: {error}.") from error
        if any(not {"file_path", "text"} <= row.keys() for row in rows):
            raise InputError(f"The first line of {source} lacks the column file_path or text.")
        return {row["file_path"] or "": row["text"] or "" for row in rows}
    raise InputError(f"{source} is not a .json, a .csv or a folder of .txt files.")


def _by_paths_here(texts: Mapping[str, str], known: Mapping[str, DataFile]) -> dict[str, str]:
    r"""Texts by the dataset's paths, even if they were written on Windows with `\`."""
    found: dict[str, str] = {}
    for path, text in texts.items():
        name = path if path in known else "/".join(parts_of(path))
        name = name if name in known else path
        if found.setdefault(name, text) != text:
            raise InputError(f"There are two texts for {name}. Leave one of them out.")
    return found


def _texts_of_json(value: Any) -> dict[str, str]:
    pairs = (
        value.items() if isinstance(value, dict) else [(v["file_path"], v["text"]) for v in value]
    )
    texts = dict(pairs)
    if not all(isinstance(text, str) for pair in texts.items() for text in pair):
        raise TypeError("a path or a text is not a string")
    return texts


def _text_of(file: Path) -> str | InputError:
    try:
        return _read(file)
    except InputError as error:
        return error


def _read(file: Path) -> str:
    return read_text(file, error=InputError, limit=DATASET_BYTES)
