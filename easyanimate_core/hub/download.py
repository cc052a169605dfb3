"""What of a repository is wanted, what of it is here, and fetching the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DownloadError, InputError
from ..files import discard, is_held, patiently, read_json, remove, replace
from ..progress import Progress
from .sources import RemoteFile, Repository
from .transfer import Say, disk_error, fetch, matches, part_path, put_in_place
from .zoo import LORAS, ZooModel

#: What the pack reads of a checkpoint: weights, configurations, vocabularies, tokenizer models.
_READ = (".json", ".model", ".safetensors", ".txt")
#: Which files were checked, beside them. Hidden, so that no list of models shows it.
_RECORD = ".easyanimate-download.json"
_LOCK = ".easyanimate-download.lock"


@dataclass(frozen=True)
class Wanted:
    """The wanted `files` of a repository, the `folder` that gets them, and which are `missing`.

    A file is here where one of its name and size is. Whether its content is right is only known
    after `download`.
    """

    repository: Repository
    folder: Path
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def to_fetch(self) -> int:
        """Bytes that are still to come; what an interrupted download has left is not."""
        return sum(file.size - _part_size(self.folder, file) for file in self.missing)

    @property
    def free(self) -> int:
        """Bytes that are free on the folder's disk."""
        there = next(
            path for path in (self.folder, *self.folder.absolute().parents) if path.is_dir()
        )
        return shutil.disk_usage(there).free

    @property
    def summary(self) -> str:
        """What is wanted, what of it is to come, and where it goes."""
        return (
            f"{self.repository.name}: {len(self.files)} files, {size_text(self.size)}; to fetch: "
            f"{size_text(self.to_fetch)}, free: {size_text(self.free)}, into {self.folder}"
        )


def target_folder(name: str, folders: Sequence[Path]) -> Path:
    """Where a model goes: to the one of `folders` that has some of it, else to the first."""
    return next((root / name for root in folders if (root / name).is_dir()), folders[0] / name)


def model_files(files: Sequence[RemoteFile], only: Sequence[str] = ()) -> tuple[RemoteFile, ...]:
    """Those of a checkpoint's files that the pack reads; with `only`, those of these folders.

    Raises:
        InputError: A name of `only` is no folder of the repository.
    """
    read = [file for file in files if Path(file.path).suffix.lower() in _READ]
    folders = sorted({file.path.split("/")[0] for file in read if "/" in file.path})
    for part in only:
        if part not in folders:
            raise InputError(f"There is no part {part!r}; the parts are {', '.join(folders)}.")
    return tuple(file for file in read if not only or file.path.split("/")[0] in only)


def named_files(files: Sequence[RemoteFile], names: Sequence[str]) -> tuple[RemoteFile, ...]:
    """The files of these paths; `DownloadError` where one is not in the repository."""
    known = {file.path: file for file in files}
    lost = [name for name in names if name not in known]
    if lost:
        raise DownloadError(f"The repository has no file {' or '.join(lost)} any more.")
    return tuple(known[name] for name in names)


def find_missing(repository: Repository, folder: Path, files: Sequence[RemoteFile]) -> Wanted:
    """What is missing of `files` in `folder`; nothing is read but sizes."""
    if not files:
        raise DownloadError(f"{repository.name} holds no file that the pack reads.")
    missing = tuple(file for file in files if _size(folder / file.path) != file.size)
    return Wanted(repository, folder, tuple(files), missing)


def download(wanted: Wanted, progress: Progress, say: Say) -> None:
    """Fetch what is missing, and check the hash of everything that was not checked before.

    `progress` counts bytes, of stage "verify" and then of stage "download". An exception from it
    cancels; the next call goes on from there.

    Raises:
        DownloadError: The disk has too little room, the hub refuses, or what arrives is wrong.
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
            f"{wanted.repository.name} needs {size_text(wanted.to_fetch)} more and the disk "
            f"of {wanted.folder} has {size_text(wanted.free)} free. Free some space, or name a "
            "folder on another disk. Nothing was fetched."
        )
    record.want(wanted)
    counter = _Counter("download", sum(file.size for file in wanted.missing), progress)
    held = []
    for file in sorted(wanted.missing, key=lambda file: file.size):  # a wrong set-up shows early
        target = wanted.folder / file.path
        fetch(wanted.repository.address(file.path), file, target, counter, say)
        if put_in_place(target, file) is None:
            record.add(file)
            say(f"{file.path}  {size_text(file.size)}")
        else:
            held.append(file)
            say(f"{file.path} is here, but another program holds it: tried again at the end.")
    _put_held(wanted.folder, held, record, say)


def _put_held(folder: Path, held: Sequence[RemoteFile], record: _Record, say: Say) -> None:
    """Once more what a virus scanner, or a ComfyUI that runs, did not let take its place."""
    for file in held:
        error = put_in_place(folder / file.path, file)
        if error is not None:
            raise DownloadError(
                f"{folder / file.path} cannot be put in place: {error.strerror or error}. Another "
                "program has it open: ComfyUI while it uses the model, or a virus scanner. Close "
                "that. What was fetched is kept, and the same command goes on without fetching it "
                "again."
            )
        record.add(file)
        say(f"{file.path}  {size_text(file.size)}")


def _without_damaged(wanted: Wanted, record: _Record, progress: Progress, say: Say) -> Wanted:
    """What is wanted, with the damaged files among the missing ones; they are removed."""
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
        say(f"{file.path} is damaged, or of another state of the repository: removed.")
    return Wanted(wanted.repository, wanted.folder, wanted.files, (*wanted.missing, *damaged))


class _Counter:
    """Bytes of single steps as the `done` of a `Progress`."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._done = 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._progress(self._stage, self._done, self._total)


class _Record:
    """The files of a folder that were checked, with their size and time at that moment.

    Reading 30 GB again only to find them unchanged would take a minute. A record that cannot be
    read is none: then everything is checked anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        stored = read_record(folder)
        self._checked: dict[str, Any] = dict(stored.get("checked", {}))
        self._wanted: dict[str, int] = dict(stored.get("wanted", {}))

    def want(self, wanted: Wanted) -> None:
        """Beside what was wanted before, unless the repository has it no more."""
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
            discard(new)  # the next entry writes all of them


def read_record(folder: Path) -> Mapping[str, Any]:
    """What an earlier download has written about a folder; {} where there is nothing to read."""
    try:
        record = read_json(folder / _RECORD, dict, error=DownloadError)
    except DownloadError:
        return {}
    kinds = [isinstance(record.get(key), dict) for key in ("wanted", "checked")]
    return record if kinds == [True, True] else {}


def model_state(model: ZooModel, folders: Sequence[Path]) -> str:
    """Whether a model is in one of the models' folders: "whole", "partly" or "no".

    Without asking a hub: whole is a folder with every part and nothing missing of what a download
    has wanted.
    """
    states = {_state(root / model.name, model.parts) for root in folders}
    return next((state for state in ("whole", "partly") if state in states), "no")


def lora_states(folders: Sequence[Path]) -> dict[str, str]:
    """The same of every LoRA."""
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
    """Bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"


def _size(path: Path) -> int:
    """-1 where there is no file."""
    return path.stat().st_size if path.is_file() else -1


def _part_size(folder: Path, file: RemoteFile) -> int:
    return min(file.size, max(0, _size(part_path(folder / file.path, file))))
