"""Files that are either whole or not there: written under another name, then renamed."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import MediaError
from .leftovers import sweep, temporary_name

#: A virus scanner holds a new file for a moment, and Windows then refuses to rename it.
_RENAME_TRIES, _RENAME_SECONDS = 5, 0.2


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to `path` when the block ends without an exception.

    The folder is created where it is missing. On any exception, `KeyboardInterrupt` included,
    nothing is left behind and an earlier `path` stays as it was. An `OSError` inside becomes
    `MediaError` naming the path and, on a full disk, the free space. What a killed process has left
    in the folder is removed.
    """
    target = Path(path)
    if target.is_dir():
        raise MediaError(f"{target} is a folder; name a file to write.")
    temporary = _temporary_beside(target)
    try:
        yield temporary
        _flush_to_disk(temporary)
        _put(temporary, target)
    except BaseException as error:
        with suppress(OSError):  # what went wrong first is what is told
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(target, error) from error
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """The same for a folder: a temporary one beside `path`, which must be new or empty.

    With `replace` it takes the place of what is there.
    """
    target = Path(path)
    if target.is_file():
        raise MediaError(f"{target} is a file; name a folder to write to.")
    if not replace and target.is_dir() and any(target.iterdir()):
        raise MediaError(
            f"The folder {target} is not empty: old files would mix with new ones. "
            "Name a new folder or empty this one."
        )
    temporary = _temporary_beside(target)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file() and os.access(file, os.W_OK):  # not what is linked from elsewhere
                _flush_to_disk(file)
        _put_folder(temporary, target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise write_error(target, error) from error
        raise


def write_error(path: Path, error: OSError) -> MediaError:
    """What to tell about an `OSError` raised while `path` was written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(path.parent if path.parent.is_dir() else Path.cwd()).free
        return MediaError(
            f"{path} does not fit: {error.strerror} ({free / 2**20:,.0f} MiB are free on that "
            "disk). Free some space or write elsewhere. Nothing was left behind."
        )
    return MediaError(f"{path} cannot be written: {error.strerror or error}.")


def _temporary_beside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(target, error) from error
    _sweep_once(target.parent.absolute())
    return target.parent / temporary_name(target.name)


@functools.lru_cache(maxsize=1024)
def _sweep_once(folder: Path) -> None:
    """Leftovers are of earlier processes: looking once is enough, and folders may be long."""
    sweep(folder)


def _flush_to_disk(file: Path) -> None:
    """Without this a power cut after the rename could leave an empty file under the final name."""
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _put(temporary: Path, target: Path) -> None:
    """Rename; where another program holds `target`, the finished file stays under a free name."""
    try:
        _retried(lambda: temporary.replace(target))
    except PermissionError as error:
        kept = _free_name(target)
        temporary.rename(kept)
        raise MediaError(
            f"{target} cannot be replaced: {error.strerror}. Another program may have it open. The "
            f"new file is whole and lies in {kept}."
        ) from error


def _put_folder(temporary: Path, target: Path) -> None:
    old = temporary.with_suffix(".old")
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()  # Windows does not rename over a folder, not even an empty one
    elif target.exists():
        _retried(lambda: target.rename(old))
    try:
        _retried(lambda: temporary.rename(target))
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _retried(rename: Callable[[], object]) -> None:
    for _ in range(_RENAME_TRIES):
        with suppress(PermissionError):
            rename()
            return
        time.sleep(_RENAME_SECONDS)
    rename()


def _free_name(target: Path) -> Path:
    names = (target.with_stem(f"{target.stem}-{number}") for number in range(2, 1000))
    return next(path for path in names if not path.exists())
