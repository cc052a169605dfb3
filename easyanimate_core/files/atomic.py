"""Atomic writes: files and folders are written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import HeldError, MediaError
from .leftovers import sweep, temporary_name
from .moving import discard, gather, is_held, patiently, rename, replace
from .named import by_name

#: Windows' limit unless long paths are enabled, terminating NUL included.
_WINDOWS_PATH = 260


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, spare: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds.

    Missing parent folders are created. On any exception, including `KeyboardInterrupt`, nothing is
    left behind and an existing `path` is unchanged. An `OSError` inside the block becomes a
    `MediaError` that names the path and, on a full disk, the free space. Unfinished files of killed
    processes in the folder are removed.

    If another program holds `path`, the finished file is kept under a free name, which the
    `HeldError` reports. With `spare=False`, for files that can be regenerated, it is deleted.
    """
    target = Path(path)
    if target.is_dir():
        raise MediaError(f"{target} is a folder; name a file to write.")
    temporary = _temporary_beside(target)
    try:
        yield temporary
        _flush_to_disk(temporary)
    except BaseException as error:
        _discard_unfinished(temporary, error)
        if isinstance(error, OSError):
            raise write_error(target, error) from error
        raise
    _put(temporary, target, replace, spare=spare)


@contextmanager
def atomic_folder(
    path: str | os.PathLike[str], *, replace: bool = False, spare: bool = True
) -> Iterator[Path]:
    """Like `atomic_file`, for a folder. `path` must be new or empty.

    With `replace` an existing folder is replaced.
    """
    target = by_name(path)
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
            if file.is_file() and os.access(file, os.W_OK):  # skips read-only link targets
                _flush_to_disk(file)
    except BaseException as error:
        _discard_unfinished(temporary, error)
        if isinstance(error, OSError):
            raise write_error(target, error) from error
        raise
    _put(temporary, target, _replace_folder, spare=spare)


def write_error(path: Path, error: OSError) -> MediaError:
    """The `MediaError` for an `OSError` raised while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(path.parent if path.parent.is_dir() else Path.cwd()).free
        return MediaError(
            f"{path} does not fit: {error.strerror} ({free / 2**20:,.0f} MiB are free on that "
            "disk). Free some space or write elsewhere. Nothing was left behind."
        )
    return MediaError(f"{path} cannot be written: {error.strerror or error}.{_on_windows(path)}")


def _on_windows(path: Path) -> str:
    """A hint about long paths: Windows only reports that the path was not found."""
    length = len(str(path.parent.absolute())) + 1 + len(temporary_name(path.name))
    if sys.platform != "win32" or length < _WINDOWS_PATH:
        return ""
    return (
        f" Its temporary path has {length} characters, and Windows allows {_WINDOWS_PATH - 1} "
        "unless long paths are enabled: choose a folder with a shorter path."
    )


def _temporary_beside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(target, error) from error
    _sweep_once(target.parent.absolute())
    return target.parent / temporary_name(target.name)


@functools.lru_cache(maxsize=1024)
def _sweep_once(folder: Path) -> None:
    """Sweep a folder once per process: leftovers come from earlier ones, and listing is slow."""
    sweep(folder)


def _flush_to_disk(file: Path) -> None:
    """Without this, a power cut after the rename could leave an empty file at the final path."""
    try:
        with patiently(lambda: file.open("rb+")) as handle:
            os.fsync(handle.fileno())
    except OSError as error:
        if not is_held(error):  # the file is complete in any case
            raise


def _put(
    temporary: Path, target: Path, place: Callable[[Path, Path], None], *, spare: bool
) -> None:
    """Move the finished `temporary` to `target` with `place`; if that fails, keep it."""
    try:
        place(temporary, target)
    except BaseException as error:
        if not spare or not isinstance(error, OSError):
            discard(temporary)
        if not isinstance(error, OSError):
            raise
        if not spare:
            raise write_error(target, error) from error
        kept = _kept(temporary, target)
        what = "folder" if kept.is_dir() else "file"
        remedy = " Move it before the next run, which removes it." if kept == temporary else ""
        raise HeldError(
            f"{target} cannot be replaced: {error.strerror or error}. Another program may have it "
            f"open, such as a player or a virus scanner. The new {what} is complete: it was saved "
            f"as {kept}.{remedy}",
            kept,
        ) from error


def _discard_unfinished(temporary: Path, error: BaseException) -> None:
    """Remove it, even if the frames of the traceback still hold it open."""
    discard(temporary)
    if temporary.exists():
        traceback.clear_frames(error.__traceback__)
        discard(temporary)


def _replace_folder(temporary: Path, target: Path) -> None:
    old = temporary.with_suffix(".old")
    if target.is_dir() and not any(target.iterdir()):
        patiently(target.rmdir)  # Windows cannot rename over a folder, not even an empty one
    elif target.exists():
        rename(target, old)
    try:
        rename(temporary, target)
    except BaseException:
        if old.exists():
            with suppress(OSError):  # if this fails, the next run restores the name
                rename(old, target)
        raise
    discard(old)


def _kept(temporary: Path, target: Path) -> Path:
    """Move the finished file or folder to a free name next to `target` and return that path.

    If the new one itself is held (by a virus scanner, say), it is copied.
    """
    kept = _free_name(target)
    try:
        temporary.rename(kept)
    except OSError:
        try:
            (gather if temporary.is_dir() else shutil.copy2)(temporary, kept)
        except OSError:
            return temporary
        discard(temporary)
    return kept


def _free_name(target: Path) -> Path:
    names = (target.with_stem(f"{target.stem}-{number}") for number in range(2, 1000))
    return next(path for path in names if not path.exists())
