"""May a command write here, and over what? Asked before the work, by everything that writes.

A result never replaces what it was made of, never a file of another kind, and one of its own kind
only where that is allowed and no other program holds it.
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
    """A file that will be written: `what` names its kind, `is_one` tells whether a file is one."""

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
    """Raise unless every result can be written, by really writing beside it.

    What killed processes have left in the folders is removed; folders that are missing stay so.

    Args:
        results: All files of a run, what lies beside the main one included.
        sources: What is read; folders too.
        force: Earlier results of the same kinds may be replaced.
        room: Bytes that must be free.
        held: What another program holds is no fault: the work is done, and the result is kept under
            another name.

    Raises:
        InputError: A result would replace a source, another result of the run, or a file that may
            not be replaced.
        MediaError: Nothing can be written there, or what is there is held by another program.
    """
    read = {identity: path for path in sources for identity in _identities(Path(path))}
    written: set[object] = set()
    for result in results:
        check_here(result.path)
        identities = _identities(result.path)
        source = next((read[identity] for identity in identities if identity in read), None)
        if source is not None:
            raise InputError(
                f"The result {result.path} would be written over its own source {source}. Name "
                "another output."
            )
        if not written.isdisjoint(identities):
            raise InputError(f"{result.path} would be two results at once. Name another file.")
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
    """The same for a folder that will be new, or take the place of an earlier one as a whole."""
    folder = by_name(folder)
    for source in sources:
        there, here = folder.resolve(), source.resolve()
        if there == here or there in here.parents or here in there.parents:
            raise InputError(
                f"The target {folder} and the source {source} lie in each other: name another."
            )
    check_here(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file and would become a folder: name another output.")
    if folder.is_dir() and any(folder.iterdir()):
        if not is_one(folder):
            raise InputError(
                f"The folder {folder} is not empty and is no {what}, so it is not replaced. Name a "
                "new folder or empty this one."
            )
        if not force:
            raise InputError(
                f"{folder} is there already. Name another output, or allow to replace it (--force)."
            )
    _check_free(folder)
    _check_folder(folder.absolute().parent, [folder], 0)


def check_writable(folder: Path) -> None:
    """Raise `MediaError` unless files can be made in `folder`, by making one.

    What killed processes have left unfinished anywhere below it is removed.
    """
    sweep(folder, below=True)
    _check_folder(folder.absolute(), [folder / "new"], 0)


def _identities(path: Path) -> list[object]:
    """What tells a file from others: where links lead, and the file on its disk if it is there.

    The latter also knows another case of the name, where the disk does not mind it.
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
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file.")
        if not path.is_file():
            if path.is_symlink():
                return  # it leads nowhere; the link is replaced
            raise InputError(f"{path} is no ordinary file: it is not written over.")
        if path.stat().st_size == 0 or not found.st_size:
            return
        is_one = result.is_one(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    if not is_one:
        raise InputError(
            f"{path} is there already and is no {result.what}: it is not written over. Name "
            "another output."
        )
    if not force:
        raise InputError(
            f"{path} is there already. Name another output, or allow to replace it (--force)."
        )


def _check_free(path: Path) -> None:
    """Raise where another program holds what will be replaced: better now than after the work."""
    try:
        if os.path.lexists(path):
            check_free(path)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be replaced: {error.strerror or error}. Another program has it open, "
            "or something in it: close that program, or name another output."
        ) from error


def _check_folder(folder: Path, paths: Sequence[Path], room: int) -> None:
    """Raise unless a file of each name can be made in `folder`, which is taken away again."""
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
        target.lstat()  # a name that is too long is told here
    attempt = target.with_name(temporary_name(target.name))
    try:
        with attempt.open("xb") as file:
            file.write(b"x")
        with suppress(OSError):
            remove(attempt)
    except BaseException:  # an interruption too, of the removal as well
        discard(attempt)
        raise


def _unwritable(path: Path, error: OSError | ValueError) -> MediaError:
    if isinstance(error, OSError):
        return write_error(path, error)
    return MediaError(f"{str(path)!r} is no name for a file: {error}.")
