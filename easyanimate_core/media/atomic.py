"""Files that are either whole or not there: written under another name, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MediaError


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to `path` when the block ends without an exception.

    The folder is created where it is missing. On any exception, `KeyboardInterrupt` included,
    nothing is left behind and an earlier `path` stays as it was. An `OSError` inside becomes
    `MediaError` naming the path and, on a full disk, the free space.
    """
    target = Path(path)
    if target.is_dir():
        raise MediaError(f"{target} is a folder; name a file to write.")
    temporary = _temporary_beside(target)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(target, error) from error
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The same for a folder: a temporary one beside `path`, which must be new or empty."""
    target = Path(path)
    if target.is_file():
        raise MediaError(f"{target} is a file; name a folder to write the frames to.")
    if target.is_dir() and any(target.iterdir()):
        raise MediaError(
            f"The folder {target} is not empty: old frames would mix with new ones. "
            "Name a new folder or empty this one."
        )
    temporary = _temporary_beside(target)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _flush_to_disk(file)
        if target.is_dir():  # Windows does not rename over a folder, not even an empty one
            target.rmdir()
        temporary.replace(target)
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
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.part"


def _flush_to_disk(file: Path) -> None:
    """Without this a power cut after the rename could leave an empty file under the final name."""
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())
