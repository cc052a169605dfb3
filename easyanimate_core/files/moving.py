"""Putting files in place and taking them away where another program may hold them.

Windows neither moves nor removes what a program has open: a player its video, a virus scanner and
the search index every new file for a moment, this process what it has mapped. A mount of a
container is as busy. So each of these waits for about three seconds before it gives up, and what is
read-only is removed as everywhere else, where the folder alone decides.
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

#: Seconds before each further attempt; 3.1 in all.
_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.6)
#: Which attempt a collection follows: it takes longer than most programs look at a file.
_COLLECT_AT = 3
#: Denied, shared otherwise, a part locked, not empty because what was in it is still going, a
#: mapping open. Python makes a PermissionError of the first three alone.
_WINDOWS_CODES = (5, 32, 33, 145, 1224)


def is_held(error: OSError) -> bool:
    """Whether an error may be another program's doing, and so pass."""
    code = getattr(error, "winerror", None)
    busy = error.errno in (errno.EBUSY, errno.ETXTBSY)
    return isinstance(error, PermissionError) or busy or code in _WINDOWS_CODES


def patiently(action: Callable[[], Value], *, wait: bool = True) -> Value:
    """The result of `action`, which is tried again for about three seconds while files are held."""
    for number, seconds in enumerate(_WAITS if wait else ()):
        try:
            return action()
        except OSError as error:
            if not is_held(error):
                raise
        if number == _COLLECT_AT:
            gc.collect()  # of this process's own maps, those that nothing but a circle keeps
        time.sleep(seconds)
    return action()


def replace(source: Path, target: Path) -> None:
    """Give a file the name `target`; a file that is there goes."""
    _take_away(target, lambda: source.replace(target))


def rename(source: Path, target: Path) -> None:
    """Give a file or a folder the name `target`, which is free."""
    _try(target.parent, lambda: source.rename(target))


def remove(path: Path, *, wait: bool = True) -> None:
    """Remove a file; one that is not there is fine."""
    with suppress(FileNotFoundError):
        _take_away(path, path.unlink, wait=wait)


def remove_tree(folder: Path, *, wait: bool = True) -> None:
    """Remove a folder with all that is in it; one that is not there is fine.

    What can be removed is. Raises `OSError` in the end for the first thing that cannot be.
    """
    faults: list[OSError] = []

    def again(function: Callable[..., Any], name: str, error: BaseException) -> None:
        path, waits = Path(name), wait and not faults  # three seconds are enough for all of it
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
    """Remove a file or a folder that nobody waits for; what is held, the next run removes."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            remove_tree(path, wait=False)
        else:
            remove(path, wait=False)


def check_free(path: Path) -> None:
    """Raise `OSError` where a file, or anything in a folder, is held, so that it cannot be moved.

    Windows says so where something is renamed to its own name, which changes nothing. What another
    program has mapped and not open is not found out.
    """
    for place in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(FileExistsError):  # its own name is taken, by itself: so it was let open
            _try(place.parent, functools.partial(place.rename, place))


def gather(source: Path, target: Path) -> None:
    """A folder under a free name where it cannot be renamed as a whole, because a file is held.

    The files are moved one by one, and those that are held are copied.
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
    """`action` patiently, unless the folder may not be written to, which does not pass."""
    patiently(action, wait=wait and os.access(folder, os.W_OK))


def _take_away(path: Path, action: Callable[[], object], *, wait: bool = True) -> None:
    """`action`, by which what is at `path` goes though it is read-only; where not, it stays so."""
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
    """The mode of what was read-only and is not any more; None where nothing was changed."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or mode & stat.S_IWUSR:
            return None
        path.chmod(mode | stat.S_IWUSR)
    except OSError:
        return None
    return stat.S_IMODE(mode)
