"""Captions that people have: JSON, CSV, or a text file for each picture and clip."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...files import DATASET_BYTES, json_value, parts_of, read_text, short
from ..data.texts import caption_beside, caption_in, checked_text, path_in, renamed, text_in
from .files import DataFile

_COLUMNS = ("file_path", "text")
_QUOTED = 'A text with commas must be in double quotes: clips/a.mp4,"a cat, sitting"'


@dataclass(frozen=True)
class Given:
    """A caption and `where` it stands, for messages."""

    where: str
    path: str
    text: str


def given_captions(
    source: Path, files: Sequence[DataFile], unreadable: dict[str, str]
) -> Iterator[Given]:
    """The captions of a .json, a .csv or a folder, in order.

    Files of a folder whose captions cannot be read are left out and put into `unreadable`.

    Raises:
        InputError: An entry has no path or no text, or the source has another format.
    """
    suffix = source.suffix.lower()
    if source.is_dir():
        return _of_folder(source, files, unreadable)
    if suffix == ".json":
        return _of_json(json_value(_read(source), object, str(source), error=InputError), source)
    if suffix == ".csv":
        return _of_csv(source, {data.path for data in files})
    remedy = {
        ".tsv": " Save it as CSV, with commas between the columns.",
        ".jsonl": " Save it as .json: a list with the lines as its entries.",
    }.get(suffix, "")
    raise InputError(f"{source} is not a .json, a .csv or a folder of .txt files.{remedy}")


def _of_folder(
    source: Path, files: Sequence[DataFile], unreadable: dict[str, str]
) -> Iterator[Given]:
    for data in files:
        found = _beside(source, data.path)
        if isinstance(found, Given):
            yield found
        elif found:
            unreadable[data.path] = found


def _beside(source: Path, path: str) -> Given | str:
    """The caption of one file, empty if there is none, or why it cannot be read."""
    try:
        file = caption_beside(source / path)
        if file is None:
            return ""
        return Given(file.relative_to(source).as_posix(), path, caption_in(file))
    except InputError as error:
        return str(error)


def _of_json(value: object, source: Path) -> Iterator[Given]:
    if isinstance(value, Mapping):
        for path, text in value.items():
            where = f"{source} has for {short(path)} the text"
            yield Given(f"the key {short(path)}", path, checked_text(text, where))
    elif isinstance(value, list):
        for number, entry in enumerate(value, start=1):
            where = f"Entry {number} of {source}"
            path = path_in(entry, where)
            text = text_in(entry, f"{where} ({short(path)[1:-1]})")
            yield Given(f"entry {number}", path, text)
    else:
        raise InputError(
            f'{source} must contain a list of {{"file_path", "text"}} or an object that maps paths '
            f"to texts; it contains {short(value)}."
        )


def _of_csv(source: Path, known: set[str]) -> Iterator[Given]:
    reader = csv.reader(_read(source).splitlines(keepends=True))
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, source, known)
        places = [header.index(name) for name in _COLUMNS]
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            where = f"Line {reader.line_num} of {source}"
            _check_row(row, header, where)
            path, text = (row[place] for place in places)
            where = f"{where} ({short(path)[1:-1]}) has the text"
            yield Given(f"line {reader.line_num}", path, checked_text(text, where))
    except csv.Error as error:
        raise InputError(f"{source} is not valid CSV: {error}.") from error


def _check_header(header: Sequence[str], source: Path, known: set[str]) -> None:
    if set(_COLUMNS) <= set(header):
        return
    said = f"The first line of {source} lacks the column file_path or text: it is {short(header)}."
    other = next((sign for sign in ";\t|" if any(sign in name for name in header)), "")
    if any(cell in known or "/".join(parts_of(cell)) in known for cell in header):
        remedy = "Put the line file_path,text above it."
    elif other:
        remedy = f"Its columns are separated by {other!r}: save it with commas."
    else:
        remedy = renamed(header) or "Name the columns file_path and text."
    raise InputError(f"{said} {remedy}")


def _check_row(row: Sequence[str], header: Sequence[str], where: str) -> None:
    extra = row[len(header) :]
    if len(row) < len(header) or any(cell.strip() for cell in extra):
        remedy = f"{_QUOTED}." if extra else "Write the missing values, or leave the line out."
        raise InputError(
            f"{where} has {len(row)} values for {len(header)} columns: {short(list(row))}. {remedy}"
        )


def _read(source: Path) -> str:
    return read_text(source, error=InputError, limit=DATASET_BYTES)
