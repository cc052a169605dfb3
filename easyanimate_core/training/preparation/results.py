"""The decisions of the steps, as read by later steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError
from ...files import DATASET_BYTES, read_json
from ..data.texts import some
from .files import DataFile, records_of
from .measures import Limit, Reason

_FILTER, _DEDUPLICATE = "Run the step filter.", "Run the step deduplicate."


@dataclass(frozen=True)
class Decision:
    """The decision about one file, which is kept if there are no reasons to drop it."""

    path: str
    identity: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Decisions:
    """The limits applied, the measures that were `off` with the reason, and all files.

    `notes` list, by path, the changes made to files so that they look as a player shows them.
    """

    limits: Mapping[str, Limit]
    off: Mapping[str, str]
    files: tuple[Decision, ...]
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Duplicate:
    """`path` was dropped in favour of `kept`; `distance` is in bits, out of 64."""

    path: str
    kept: str
    distance: float


@dataclass(frozen=True)
class Duplicates:
    """The files compared (path to identity) and those dropped."""

    threshold: float
    compared: Mapping[str, str]
    dropped: tuple[Duplicate, ...]


def read_decisions(folder: Path) -> Decisions:
    """Read the decisions of the filter step.

    Raises:
        InputError: The file is missing or damaged.
    """
    file = records_of(folder) / "decisions.json"
    value = read_json(file, dict, error=InputError, remedy=_FILTER, limit=DATASET_BYTES)
    try:
        return Decisions(
            {name: Limit(**limit) for name, limit in value["limits"].items()},
            value["off"],
            tuple(
                Decision(f["path"], f["identity"], tuple(Reason(**r) for r in f["reasons"]))
                for f in value["files"]
            ),
            {path: tuple(map(str, notes)) for path, notes in value.get("notes", {}).items()},
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error!r}). {_FILTER}") from error


def read_duplicates(folder: Path) -> Duplicates:
    """Read the decisions of the deduplicate step.

    Raises:
        InputError: The file is missing or damaged.
    """
    file = records_of(folder) / "duplicates.json"
    value = read_json(file, dict, error=InputError, remedy=_DEDUPLICATE, limit=DATASET_BYTES)
    try:
        dropped = tuple(Duplicate(**duplicate) for duplicate in value["dropped"])
        return Duplicates(value["threshold"], value["compared"], dropped)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error!r}). {_DEDUPLICATE}") from error


def filtered(folder: Path, files: list[DataFile]) -> list[DataFile]:
    """The files kept by the filter step, or all if it was never run.

    Raises:
        InputError: There are files that the step has not seen.
    """
    if not (records_of(folder) / "decisions.json").exists():
        return files
    decided = {d.path: d for d in read_decisions(folder).files}
    new = [f.path for f in files if f.path not in decided or decided[f.path].identity != f.identity]
    if new:
        raise InputError(
            f"{len(new)} files are new or changed since the step filter: {some(new)}. Run it again."
        )
    return [data for data in files if not decided[data.path].reasons]


def remaining(folder: Path, files: list[DataFile]) -> list[DataFile]:
    """The files kept by filter and deduplicate, as far as these steps were run.

    Raises:
        InputError: There are files that one of these steps has not seen.
    """
    kept = filtered(folder, files)
    if not (records_of(folder) / "duplicates.json").exists():
        return kept
    duplicates = read_duplicates(folder)
    new = [data.path for data in kept if duplicates.compared.get(data.path) != data.identity]
    if new:
        raise InputError(
            f"{len(new)} files were not compared by the step deduplicate: {some(new)}. Run it "
            "again."
        )
    dropped = {duplicate.path for duplicate in duplicates.dropped}
    # A file that filter has dropped since can no longer represent its duplicates.
    left = {data.path for data in kept}
    orphans = [d.path for d in duplicates.dropped if d.path in left and d.kept not in left]
    if orphans:
        raise InputError(
            f"{len(orphans)} files were dropped in favour of others that filter has dropped since: "
            f"{some(orphans)}. Run the step deduplicate again."
        )
    return [data for data in kept if data.path not in dropped]
