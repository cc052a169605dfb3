"""Moving and removing files that another program may hold open.

Windows neither moves nor removes a file that is open: a video in a player, a new file that a virus
scanner or the search index reads for a moment, a file that this process has mapped. A container's
mount can be just as busy. So each function retries for about three seconds before it gives up.
Read-only files are removed as on other systems, where only the folder's permissions matter.
"""

from __future__ import annotations

import errno
import functools
import gc
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")

#: Seconds before each retry; 3.1 in all.
_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.6)
#: The attempt after which garbage is collected, which takes longer than most scans of a file.
_COLLECT_AT = 3
#: Access denied, sharing violation, lock violation, folder not empty (deletions are pending), file
#: mapped. Python turns only the first three into PermissionError.
_WINDOWS_CODES = (5, 32, 33, 145, 1224)


def is_held(error: OSError) -> bool:
    """Whether another program may have caused the error, so that a retry can succeed."""
    code = getattr(error, "winerror", None)
    busy = error.errno in (errno.EBUSY, errno.ETXTBSY)
    return isinstance(error, PermissionError) or busy or code in _WINDOWS_CODES


def patiently(action: Callable[[], Value], *, wait: bool = True) -> Value:
    """The result of `action`, retried for about three seconds while files are held."""
    for number, seconds in enumerate(_WAITS if wait else ()):
        try:
            return action()
        except OSError as error:
            if not is_held(error):
                raise
        if number == _COLLECT_AT:
            gc.collect()  # frees this process's own maps that only reference cycles keep
        time.sleep(seconds)
    return action()


def replace(source: Path, target: Path) -> None:
    """Rename a file to `target`, replacing an existing file."""
    _take_away(target, lambda: source.replace(target))


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder to `target`, which must not exist."""
    _try(target.parent, lambda: source.rename(target))


def remove(path: Path, *, wait: bool = True) -> None:
    """Remove a file, if it exists."""
    with suppress(FileNotFoundError):
        _take_away(path, path.unlink, wait=wait)


def remove_tree(folder: Path, *, wait: bool = True) -> None:
    """Remove a folder and its content, if it exists.

    Everything that can be removed is removed; then the first `OSError` is raised.
    """
    faults: list[OSError] = []

    def again(function: Callable[..., Any], name: str, error: BaseException) -> None:
        path, waits = Path(name), wait and not faults  # wait at most once
        try:
            if function is os.unlink:
                remove(path, wait=waits)
            elif function is os.rmdir and not faults:
                _take_away(path, path.rmdir, wait=waits)
            elif isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                faults.append(error)
        except FileNotFoundError:
            pass
        except OSError as fault:
            faults.append(fault)

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=again)
    else:
        shutil.rmtree(folder, onerror=lambda function, name, info: again(function, name, info[1]))
    if faults:
        raise faults[0]


def discard(path: Path) -> None:
    """Try to remove a file or folder without waiting; the next run removes what is held."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            remove_tree(path, wait=False)
        else:
            remove(path, wait=False)


def check_free(path: Path) -> None:
    """Raise `OSError` if a file, or anything in a folder, is held and so cannot be moved.

    On Windows, renaming a file to its own name changes nothing but fails if the file is held. Files
    that are mapped but not open go undetected.
    """
    for place in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(FileExistsError):  # the name is taken by the file itself: it is not held
            _try(place.parent, functools.partial(place.rename, place))


def gather(source: Path, target: Path) -> None:
    """Move a folder file by file, when a held file prevents renaming it as a whole.

    Files that are held are copied.
    """
    target.mkdir()
    for path in sorted(source.rglob("*")):
        new = target / path.relative_to(source)
        if path.is_dir():
            new.mkdir(exist_ok=True)
            continue
        try:
            path.rename(new)
        except OSError:
            shutil.copy2(path, new)


def _try(folder: Path, action: Callable[[], object], *, wait: bool = True) -> None:
    """Retry `action`, unless the folder is not writable, which no retry cures."""
    patiently(action, wait=wait and os.access(folder, os.W_OK))


def _take_away(path: Path, action: Callable[[], object], *, wait: bool = True) -> None:
    """Run `action`, which removes `path`, even if `path` is read-only; on failure it stays so."""
    try:
        action()
    except OSError as error:
        if not is_held(error):
            raise
    else:
        return
    mode = _made_writable(path)
    try:
        _try(path.parent, action, wait=wait)
    except OSError:
        if mode is not None:
            path.chmod(mode)
        raise


def _made_writable(path: Path) -> int | None:
    """Make `path` writable and return its previous mode; None if nothing was changed."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or mode & stat.S_IWUSR:
            return None
        path.chmod(mode | stat.S_IWUSR)
    except OSError:
        return None
    return stat.S_IMODE(mode)
