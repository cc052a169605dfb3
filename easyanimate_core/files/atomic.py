"""Files that are either whole or not there: written under another name, then renamed."""

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

#: The longest path that Windows knows where long ones are not enabled, its end included.
_WINDOWS_PATH = 260


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, spare: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to `path` when the block ends without an exception.

    The folder is created where it is missing. On any exception, `KeyboardInterrupt` included,
    nothing is left behind and an earlier `path` stays as it was. An `OSError` inside becomes
    `MediaError` naming the path and, on a full disk, the free space. What a killed process has left
    in the folder is removed.

    A finished file that cannot take its place, because another program holds it, stays under a free
    name, which a `HeldError` tells; without `spare`, for what can be made again, it goes.
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
    """The same for a folder: a temporary one beside `path`, which must be new or empty.

    With `replace` it takes the place of what is there.
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
            if file.is_file() and os.access(file, os.W_OK):  # not what is linked from elsewhere
                _flush_to_disk(file)
    except BaseException as error:
        _discard_unfinished(temporary, error)
        if isinstance(error, OSError):
            raise write_error(target, error) from error
        raise
    _put(temporary, target, _replace_folder, spare=spare)


def write_error(path: Path, error: OSError) -> MediaError:
    """What to tell about an `OSError` raised while `path` was written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(path.parent if path.parent.is_dir() else Path.cwd()).free
        return MediaError(
            f"{path} does not fit: {error.strerror} ({free / 2**20:,.0f} MiB are free on that "
            "disk). Free some space or write elsewhere. Nothing was left behind."
        )
    return MediaError(f"{path} cannot be written: {error.strerror or error}.{_on_windows(path)}")


def _on_windows(path: Path) -> str:
    """What the system does not say: it takes a path that is too long for one that leads nowhere."""
    length = len(str(path.parent.absolute())) + 1 + len(temporary_name(path.name))
    if sys.platform != "win32" or length < _WINDOWS_PATH:
        return ""
    return (
        f" Its path has {length} characters while it is written, and Windows allows "
        f"{_WINDOWS_PATH - 1} unless long paths are enabled: choose a folder with a shorter path."
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
    """Leftovers are of earlier processes: looking once is enough, and folders may be long."""
    sweep(folder)


def _flush_to_disk(file: Path) -> None:
    """Without this a power cut after the rename could leave an empty file under the final name."""
    try:
        with patiently(lambda: file.open("rb+")) as handle:
            os.fsync(handle.fileno())
    except OSError as error:
        if not is_held(error):  # it is whole all the same
            raise


def _put(
    temporary: Path, target: Path, place: Callable[[Path, Path], None], *, spare: bool
) -> None:
    """Let `place` give the finished `temporary` its name; where that cannot be, keep it."""
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
            f"open, such as a player or a virus scanner. The new {what} is whole and lies in "
            f"{kept}.{remedy}",
            kept,
        ) from error


def _discard_unfinished(temporary: Path, error: BaseException) -> None:
    """Remove it; what was interrupted may still have it open, in the error's own frames."""
    discard(temporary)
    if temporary.exists():
        traceback.clear_frames(error.__traceback__)
        discard(temporary)


def _replace_folder(temporary: Path, target: Path) -> None:
    old = temporary.with_suffix(".old")
    if target.is_dir() and not any(target.iterdir()):
        patiently(target.rmdir)  # Windows does not rename over a folder, not even an empty one
    elif target.exists():
        rename(target, old)
    try:
        rename(temporary, target)
    except BaseException:
        if old.exists():
            with suppress(OSError):  # then the next run gives it its name back
                rename(old, target)
        raise
    discard(old)


def _kept(temporary: Path, target: Path) -> Path:
    """Where a finished file or folder lies now: beside `target` under a name that is free.

    The new one may be what is held, by a scanner. Then it is copied.
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
