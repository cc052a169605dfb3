"""The text of every file: from a vision-language model, or from given files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MediaError, counted
from ...files import parts_of, short
from ...progress import Progress, silent
from ..data.texts import caption_beside, caption_in, some
from .caption_model import Captioning, CaptionModel, check_model
from .files import DataFile, find_files, records_of
from .given import Given, given_captions
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
    others so that the model sees them as a player shows them; `remarks` are about the texts.
    """

    added: int
    without: int
    unreadable: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: Sequence[str] = ()


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
    has the columns file_path and text; in a folder, clips/a.txt or clips/a.caption is the text of
    clips/a.mp4 (and may be next to the clip itself). Paths are relative to the dataset.

    Unreadable files of a folder are left out and listed in the summary.

    Raises:
        InputError: The source is unreadable, has an entry without a text or two for a file, or
            names files that are not in the dataset.
    """
    files = find_files(folder)
    unreadable: dict[str, str] = {}
    by_path = {data.path: data for data in files}
    given = list(given_captions(source, files, unreadable))
    texts, remarks = _by_paths_here(source, given, by_path)
    unknown = [path for path in texts if path not in by_path]
    if unknown:
        raise InputError(
            f"{source} has captions of what is not in {folder}: "
            f"{some(unknown)}. Write paths like {files[0].path}, relative to {folder}."
        )
    if not texts:
        said = "".join(f" {fault}" for fault in list(unreadable.values())[:1])
        raise InputError(f"{source} has no captions for the files of {folder}.{said}")
    empty = [path for path, text in texts.items() if not text.strip()]
    if empty:
        raise InputError(
            f"{source} has an empty text for {some(empty)}. Write one, or leave the file out. To "
            'train a file without words, set "text": "" in the manifest.'
        )
    journal = _journal(folder)
    latest = _latest(journal, files)
    added = 0
    for path, text in texts.items():
        caption = Caption(path, by_path[path].identity, GIVEN, text.strip())
        if latest.get(path) != caption:
            journal.add(caption)
            added += 1
    return CaptionSummary(added, _without(folder, files), unreadable, remarks=remarks)


def edited_captions(files: Iterable[DataFile], texts: Mapping[str, str]) -> list[str]:
    """A note if caption files beside the data say something else than `texts`."""
    beside: dict[str, str] = {}
    for data in files:
        try:
            found = caption_beside(data.file)
            text = caption_in(found) if found else ""
        except InputError:
            continue
        if found and text and text != texts[data.path]:
            beside[data.path] = f"{found.name} has {short(text)}, not {short(texts[data.path])}"
    if not beside:
        return []
    return [
        f"{counted(len(beside), 'caption file')} beside the data differ from the captions in use: "
        f"{some(list(beside.values()))}. To use the files, run caption DATA --from DATA and then "
        "manifest again."
    ]


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


def _by_paths_here(
    source: Path, given: Sequence[Given], known: Mapping[str, DataFile]
) -> tuple[dict[str, str], tuple[str, ...]]:
    r"""Texts by the dataset's paths, even if they were written on Windows with `\`, and remarks."""
    first: dict[str, Given] = {}
    again = []
    for one in given:
        name = one.path if one.path in known else "/".join(parts_of(one.path))
        name = name if name in known else one.path
        other = first.setdefault(name, one)
        if other.text.strip() != one.text.strip():
            raise InputError(
                f"{source} has two texts for {name}: {other.where} has {short(other.text)}, "
                f"{one.where} {short(one.text)}. Leave one of them out."
            )
        if other is not one:
            again.append(f"{one.where} ({name})")
    remarks = [f"Repeated with the same text: {some(again)}."] if again else []
    return {name: one.text for name, one in first.items()}, (*remarks, *_shared(given))


def _shared(given: Sequence[Given]) -> list[str]:
    """A remark about caption files that belong to several files of the same name."""
    owners: dict[str, list[str]] = {}
    for one in given:
        owners.setdefault(one.where, []).append(one.path)
    shared = [
        f"{where} is the caption of {' and '.join(paths)}"
        for where, paths in owners.items()
        if len(paths) > 1
    ]
    return [f"{some(shared)}."] if shared else []
