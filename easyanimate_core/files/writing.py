"""Checks before the work starts that its results can be written, and what they may replace.

A result never replaces its own source or a file of another kind. It replaces a file of its own kind
only if that is allowed and no other program holds it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, MediaError
from .atomic import write_error
from .leftovers import sweep, temporary_name
from .moving import check_free, discard, remove
from .named import by_name
from .names import check_here


@dataclass(frozen=True)
class Result:
    """A file to be written; `what` names its kind, `is_one` tests whether a file is of it."""

    path: Path
    what: str
    is_one: Callable[[Path], bool]


def check_results(
    results: Sequence[Result],
    *,
    sources: Iterable[str | os.PathLike[str]] = (),
    force: bool = False,
    room: int = 0,
    held: bool = False,
) -> None:
    """Raise unless every result can be written; tested by writing a file next to it.

    Unfinished files of killed processes are removed; missing folders are not left behind.

    Args:
        results: All files of a run, including those written next to the main one.
        sources: Files and folders that are read.
        force: Allow replacing earlier results of the same kind.
        room: Required free space in bytes.
        held: Accept files that another program holds; the result is then saved under another name.

    Raises:
        InputError: A result would replace a source, another result of the run, or a file that must
            not be replaced.
        MediaError: The location is not writable, or another program holds the existing file.
    """
    read = {identity: path for path in sources for identity in _identities(Path(path))}
    written: set[object] = set()
    for result in results:
        check_here(result.path)
        identities = _identities(result.path)
        source = next((read[identity] for identity in identities if identity in read), None)
        if source is not None:
            raise InputError(
                f"The result {result.path} would overwrite its own source {source}. Name another "
                "output."
            )
        if not written.isdisjoint(identities):
            raise InputError(f"Two results would be written to {result.path}. Name another file.")
        written.update(identities)
        _check_replaced(result, force=force)
        if not held:
            _check_free(result.path)
    paths = [result.path for result in results]
    for folder in dict.fromkeys(path.absolute().parent for path in paths):
        _check_folder(folder, [path for path in paths if path.absolute().parent == folder], room)


def check_folder(
    folder: Path,
    what: str,
    is_one: Callable[[Path], bool],
    *,
    sources: Iterable[Path] = (),
    force: bool = False,
) -> None:
    """Like `check_results`, for a folder that will be created or replaced as a whole."""
    folder = by_name(folder)
    for source in sources:
        there, here = folder.resolve(), source.resolve()
        if there == here or there in here.parents or here in there.parents:
            raise InputError(
                f"The target {folder} and the source {source} overlap: name another target."
            )
    check_here(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file; the output is a folder. Name another output.")
    if folder.is_dir() and any(folder.iterdir()):
        if not is_one(folder):
            raise InputError(
                f"The folder {folder} is not empty and is not a valid {what}, so it is not "
                "replaced. Name a new folder or empty this one."
            )
        if not force:
            raise InputError(
                f"{folder} already exists. Name another output, or replace it with --force."
            )
    _check_free(folder)
    _check_folder(folder.absolute().parent, [folder], 0)


def check_writable(folder: Path) -> None:
    """Raise `MediaError` unless a file can be created in `folder`; tested by creating one.

    Unfinished files of killed processes anywhere below it are removed.
    """
    sweep(folder, below=True)
    _check_folder(folder.absolute(), [folder / "new"], 0)


def _identities(path: Path) -> list[object]:
    """Keys that identify a file: its path, its resolved path, and its device and inode.

    The inode also matches names that differ only in case on a case-insensitive file system.
    """
    found: list[object] = [os.path.normcase(path.absolute())]
    with suppress(OSError, ValueError, RuntimeError):  # a loop of links, a name too long
        found.append(os.path.normcase(path.resolve()))
        facts = path.stat()
        found.append((facts.st_dev, facts.st_ino))
    return found


def _check_replaced(result: Result, *, force: bool) -> None:
    path = result.path
    try:
        found = path.lstat()
        is_folder, is_regular, is_link = path.is_dir(), path.is_file(), path.is_symlink()
        is_empty = is_regular and (path.stat().st_size == 0 or not found.st_size)
        is_one = is_regular and (is_empty or result.is_one(path))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    if is_folder:
        raise InputError(f"{path} is a folder; name a file.")
    if is_empty or (is_link and not is_regular):
        return  # a dangling link is replaced
    if not is_regular:
        raise InputError(f"{path} is not a regular file, so it is not overwritten.")
    if not is_one:
        raise InputError(
            f"{path} already exists and is not a valid {result.what}, so it is not overwritten. "
            "Name another output."
        )
    if not force:
        raise InputError(f"{path} already exists. Name another output, or replace it with --force.")


def _check_free(path: Path) -> None:
    """Raise if another program holds what will be replaced: better now than after the work."""
    try:
        if os.path.lexists(path):
            check_free(path)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be replaced: {error.strerror or error}. Another program has it, or "
            "something in it, open: close that program or name another output."
        ) from error


def _check_folder(folder: Path, paths: Sequence[Path], room: int) -> None:
    """Raise unless a file of each name can be created in `folder`; nothing is left behind."""
    first = paths[0]
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        existing = folder if not missing else missing[-1].parent
    except (OSError, ValueError) as error:
        raise _unwritable(first, error) from error
    if not existing.is_dir():
        raise MediaError(f"{first} cannot be written: {existing} is not a folder.")
    if room and (free := shutil.disk_usage(existing).free) < room:
        raise MediaError(
            f"{existing} has {free / 1e6:.1f} MB free; {room / 1e6:.0f} MB are needed for the "
            "result. Free some space or choose another output."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        for path in paths:
            _try_to_write(folder / path.name)
    except (OSError, ValueError) as error:
        raise _unwritable(first, error) from error
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def _try_to_write(target: Path) -> None:
    with suppress(FileNotFoundError):
        target.lstat()  # raises if the name is too long
    attempt = target.with_name(temporary_name(target.name))
    try:
        with attempt.open("xb") as file:
            file.write(b"x")
        with suppress(OSError):
            remove(attempt)
    except BaseException:  # also if the removal is interrupted
        discard(attempt)
        raise


def _unwritable(path: Path, error: OSError | ValueError) -> MediaError:
    if isinstance(error, OSError):
        return write_error(path, error)
    return MediaError(f"{str(path)!r} is not a valid file name: {error}.")
