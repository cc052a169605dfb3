"""Selects files of a repository, checks which are present, and downloads the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DownloadError, InputError, counted
from ..files import discard, is_held, patiently, read_json, remove, replace
from ..progress import Progress
from .sources import RemoteFile, Repository
from .transfer import Say, disk_error, fetch, matches, part_path, put_in_place
from .zoo import LORAS, ZooModel

#: The checkpoint files that the pack reads: weights, configs, vocabularies, tokenizer models.
_READ = (".json", ".model", ".safetensors", ".txt")
#: Records the verified files, next to them. Hidden, so that no list of models shows it.
_RECORD = ".easyanimate-download.json"
_LOCK = ".easyanimate-download.lock"


@dataclass(frozen=True)
class Wanted:
    """The requested `files` of a repository, their target `folder`, and which are `missing`.

    A file counts as present if its name and size match. Its content is verified by `download`.
    """

    repository: Repository
    folder: Path
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Total size of all files in bytes."""
        return sum(file.size for file in self.files)

    @property
    def to_fetch(self) -> int:
        """Bytes left to download, not counting what an interrupted download has kept."""
        return sum(file.size - _part_size(self.folder, file) for file in self.missing)

    @property
    def free(self) -> int:
        """Free bytes on the folder's disk."""
        there = next(
            path for path in (self.folder, *self.folder.absolute().parents) if path.is_dir()
        )
        return shutil.disk_usage(there).free

    @property
    def summary(self) -> str:
        """Number and size of the files, bytes to download, free space, and target folder."""
        return (
            f"{self.repository.name}: {counted(len(self.files), 'file')}, {size_text(self.size)}; "
            f"to fetch: {size_text(self.to_fetch)}, free: {size_text(self.free)}, into "
            f"{self.folder}"
        )


def target_folder(name: str, folders: Sequence[Path]) -> Path:
    """Where a model belongs: the first of `folders` that already has its folder, else the first."""
    return next((root / name for root in folders if (root / name).is_dir()), folders[0] / name)


def model_files(files: Sequence[RemoteFile], only: Sequence[str] = ()) -> tuple[RemoteFile, ...]:
    """The checkpoint files that the pack reads; with `only`, just those in these folders.

    Raises:
        InputError: A name in `only` is not a folder of the repository.
    """
    read = [file for file in files if Path(file.path).suffix.lower() in _READ]
    folders = sorted({file.path.split("/")[0] for file in read if "/" in file.path})
    for part in only:
        if part not in folders:
            raise InputError(f"There is no part {part!r}; the parts are {', '.join(folders)}.")
    return tuple(file for file in read if not only or file.path.split("/")[0] in only)


def named_files(files: Sequence[RemoteFile], names: Sequence[str]) -> tuple[RemoteFile, ...]:
    """The files with these paths; `DownloadError` if one is not in the repository."""
    known = {file.path: file for file in files}
    lost = [name for name in names if name not in known]
    if lost:
        raise DownloadError(f"The repository no longer has the file {' or '.join(lost)}.")
    return tuple(known[name] for name in names)


def find_missing(repository: Repository, folder: Path, files: Sequence[RemoteFile]) -> Wanted:
    """What to download to `folder`; only the sizes of existing files are read."""
    if not files:
        raise DownloadError(f"{repository.name} has no file that the pack can read.")
    missing = tuple(file for file in files if _size(folder / file.path) != file.size)
    return Wanted(repository, folder, tuple(files), missing)


def download(wanted: Wanted, progress: Progress, say: Say) -> None:
    """Download the missing files and verify the hash of every file not verified before.

    `progress` counts bytes, first for the stage "verify", then for "download". An exception raised
    from it cancels; the next call resumes.

    Raises:
        DownloadError: The disk is too full, the hub refuses, or the received content is wrong.
    """
    from filelock import FileLock, Timeout

    try:
        wanted.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(wanted.folder / _LOCK, timeout=0):
            _download(wanted, progress, say)
    except Timeout as error:
        raise DownloadError(
            f"Another download into {wanted.folder} is running. Wait for it, or stop it."
        ) from error
    except OSError as error:
        raise disk_error(wanted.folder, error) from error


def _download(wanted: Wanted, progress: Progress, say: Say) -> None:
    record = _Record(wanted.folder)
    wanted = _without_damaged(wanted, record, progress, say)
    if wanted.missing and wanted.to_fetch > wanted.free:
        raise DownloadError(
            f"{wanted.repository.name} needs {size_text(wanted.to_fetch)} more, but the disk of "
            f"{wanted.folder} has {size_text(wanted.free)} free. Free some space, or name a folder "
            "on another disk. Nothing was downloaded."
        )
    record.want(wanted)
    counter = _Counter("download", sum(file.size for file in wanted.missing), progress)
    held = []
    for file in sorted(wanted.missing, key=lambda file: file.size):  # a wrong setup fails early
        target = wanted.folder / file.path
        fetch(wanted.repository.address(file.path), file, target, counter, say)
        if put_in_place(target, file) is None:
            record.add(file)
            say(f"{file.path}  {size_text(file.size)}")
        else:
            held.append(file)
            say(f"{file.path} is held by another program: trying again at the end.")
    _put_held(wanted.folder, held, record, say)


def _put_held(folder: Path, held: Sequence[RemoteFile], record: _Record, say: Say) -> None:
    """Retry the files that another program held, such as a virus scanner or a running ComfyUI."""
    for file in held:
        error = put_in_place(folder / file.path, file)
        if error is not None:
            raise DownloadError(
                f"{folder / file.path} cannot be replaced: {error.strerror or error}. Another "
                "program has it open: ComfyUI while it uses the model, or a virus scanner. Close "
                "it and run the same command again; the downloaded file is kept."
            )
        record.add(file)
        say(f"{file.path}  {size_text(file.size)}")


def _without_damaged(wanted: Wanted, record: _Record, progress: Progress, say: Say) -> Wanted:
    """The same, with damaged files removed and counted as missing."""
    unknown = [f for f in wanted.files if f not in wanted.missing and not record.knows(f)]
    counter = _Counter("verify", sum(file.size for file in unknown), progress)
    damaged = []
    for file in unknown:
        path = wanted.folder / file.path
        if matches(path, file, counter):
            record.add(file)
            continue
        remove(path)
        damaged.append(file)
        say(f"{file.path} is damaged, or from another revision of the repository: removed.")
    return Wanted(wanted.repository, wanted.folder, wanted.files, (*wanted.missing, *damaged))


class _Counter:
    """Adds up byte counts and reports them as the `done` of a `Progress`."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._done = 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._progress(self._stage, self._done, self._total)


class _Record:
    """The verified files of a folder, with their size and modification time.

    Reading 30 GB again only to find them unchanged would take a minute. If the record cannot be
    read, everything is verified again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        stored = read_record(folder)
        self._checked: dict[str, Any] = dict(stored.get("checked", {}))
        self._wanted: dict[str, int] = dict(stored.get("wanted", {}))

    def want(self, wanted: Wanted) -> None:
        """Add to the files requested before, dropping those that the repository no longer has."""
        paths = self._wanted.keys() | {file.path for file in wanted.files}
        self._wanted = {f.path: f.size for f in wanted.repository.files if f.path in paths}
        self._write()

    def knows(self, file: RemoteFile) -> bool:
        return self._checked.get(file.path) == self._entry(file)

    def add(self, file: RemoteFile) -> None:
        self._checked[file.path] = self._entry(file)
        self._write()

    def _entry(self, file: RemoteFile) -> list[Any]:
        found = (self._folder / file.path).stat()
        return [file.fingerprint, found.st_size, found.st_mtime_ns]

    def _write(self) -> None:
        path = self._folder / _RECORD
        new = path.with_suffix(".new")
        text = json.dumps({"wanted": self._wanted, "checked": self._checked}, indent=1)
        try:
            patiently(lambda: new.write_text(text + "\n", encoding="utf-8"))
            replace(new, path)
        except OSError as error:
            if not is_held(error):
                raise
            discard(new)  # the next entry rewrites the whole record


def read_record(folder: Path) -> Mapping[str, Any]:
    """The record that an earlier download left in a folder; {} if there is none."""
    try:
        record = read_json(folder / _RECORD, dict, error=DownloadError)
    except DownloadError:
        return {}
    kinds = [isinstance(record.get(key), dict) for key in ("wanted", "checked")]
    return record if kinds == [True, True] else {}


def model_state(model: ZooModel, folders: Sequence[Path]) -> str:
    """Whether a model is in one of `folders`: "whole", "partly" or "no".

    No hub is asked: a folder is whole if it has every part and every file requested by a download.
    """
    states = {_state(root / model.name, model.parts) for root in folders}
    return next((state for state in ("whole", "partly") if state in states), "no")


def lora_states(folders: Sequence[Path]) -> dict[str, str]:
    """The state of every LoRA, "whole" or "no"."""
    return {
        name: "whole" if any((root / lora.file).is_file() for root in folders) else "no"
        for name, lora in LORAS.items()
    }


def _state(folder: Path, parts: Sequence[str]) -> str:
    found = [part for part in parts if (folder / part).is_dir() and any((folder / part).iterdir())]
    wanted = read_record(folder).get("wanted", {})
    lost = [path for path, size in wanted.items() if _size(folder / path) != size]
    if len(found) == len(parts) and not lost:
        return "whole"
    return "partly" if found or wanted else "no"


def size_text(count: int) -> str:
    """A byte count in human-readable units."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"


def _size(path: Path) -> int:
    """Size in bytes, -1 if there is no file."""
    return path.stat().st_size if path.is_file() else -1


def _part_size(folder: Path, file: RemoteFile) -> int:
    return min(file.size, max(0, _size(part_path(folder / file.path, file))))
