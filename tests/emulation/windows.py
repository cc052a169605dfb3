"""How Windows shares files, imitated on Linux: what is held can be neither moved nor removed.

* A file that a process has open cannot be renamed, replaced or removed, under any of its names.
* A file that is mapped can be renamed, but not replaced, removed or cut off.
* A folder cannot be moved while anything below it is open, mapped or some process's current folder.
* Nothing is renamed over what is there, and nothing is put in a folder's place.
* What is read-only can be neither replaced nor removed.
* Symbolic links need a privilege that users lack. On exFAT there are no hard links either.

Held is what a process of the group has open: the process that called `install`, and what descends
from it. Handles that share deletion, which Python never opens, are taken as ones that do not.

`EASYANIMATE_EMULATE=windows` before pytest imitates it in the whole run, and in every Python that
the tests start; `exfat` is Windows on a disk without links.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "EASYANIMATE_EMULATE"
KINDS = ("windows", "exfat")
_ROOT_VARIABLE = "EASYANIMATE_EMULATE_ROOT"
_STARTUP = Path(__file__).parent / "startup"
_ACCESS_DENIED, _SHARING_VIOLATION, _ALREADY_EXISTS = 5, 32, 183
_NO_PRIVILEGE, _NO_LINKS, _IS_MAPPED = 1314, 1, 1224
_NAMES = ("replace", "rename", "unlink", "remove", "rmdir", "symlink", "link", "truncate")
_REAL: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _NAMES}
_real_open = io.open

Identity = tuple[int, int]


def install(kind: str) -> None:
    """Imitate it from now on, in this process and in the Pythons that it starts."""
    assert kind in KINDS, f"{VARIABLE} is {kind!r}; it may be {' or '.join(KINDS)}"
    assert sys.platform == "linux", "Windows is imitated on Linux alone: it needs /proc"
    os.environ[VARIABLE] = kind
    os.environ.setdefault(_ROOT_VARIABLE, str(os.getpid()))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(_STARTUP) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_STARTUP), *paths]))
    os.replace, os.rename, os.rmdir, os.symlink = _replace, _rename, _rmdir, _symlink
    os.unlink = os.remove = _unlink
    os.truncate = _truncate
    os.link = _no_link if kind == "exfat" else _REAL["link"]
    builtins.open = io.open = _open
    shutil._use_fd_functions = False  # it holds folders open, which the one for Windows does not


def uninstall() -> None:
    """Back to Linux."""
    for name, real in _REAL.items():
        setattr(os, name, real)
    builtins.open = io.open = _real_open
    shutil._use_fd_functions = True
    for name in (VARIABLE, _ROOT_VARIABLE):
        os.environ.pop(name, None)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = [path for path in paths if path != str(_STARTUP)]
    os.environ.pop("PYTHONPATH", None)
    if any(rest):
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)


def install_from_environment() -> None:
    """As the environment says, where it says something."""
    kind = os.environ.get(VARIABLE)
    if kind:
        install(kind)


@contextmanager
def emulated(kind: str = "windows") -> Iterator[None]:
    """Windows inside the block, unless the whole run has it already."""
    if os.environ.get(VARIABLE):
        yield
        return
    install(kind)
    try:
        yield
    finally:
        uninstall()


class _Held:
    """What the processes of the group hold: open and mapped files, and current folders."""

    def __init__(self) -> None:
        self.opened: dict[Identity, str] = {}
        self.mapped: dict[Identity, str] = {}
        self.current: list[str] = []
        for process in _group():
            self._look_at(f"/proc/{process}")

    def below(self, folder: str) -> str | None:
        """One of the held files and folders in `folder`, or the folder itself as a current one."""
        paths = (*self.opened.values(), *self.mapped.values())
        inside = [path for path in paths if path.startswith(f"{folder}/")]
        inside += [path for path in self.current if f"{path}/".startswith(f"{folder}/")]
        return inside[0] if inside else None

    def _look_at(self, process: str) -> None:
        try:
            handles = os.listdir(f"{process}/fd")
            self.current.append(os.readlink(f"{process}/cwd"))
        except OSError:  # it has ended
            return
        for handle in handles:
            try:
                path = os.readlink(f"{process}/fd/{handle}")
                facts = os.stat(f"{process}/fd/{handle}")
            except OSError:
                continue
            if path.startswith("/") and stat.S_ISREG(facts.st_mode):
                self.opened[facts.st_dev, facts.st_ino] = path
        for path in _mapped(process):
            try:
                facts = os.stat(path)
            except OSError:
                continue
            self.mapped[facts.st_dev, facts.st_ino] = path


def _mapped(process: str) -> set[str]:
    try:
        with _real_open(f"{process}/maps", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(None, 5) for line in file]
    except OSError:
        return set()
    return {line[5] for line in lines if len(line) == 6 and line[5].startswith("/")}


def _group() -> list[int]:
    """The process that installed this, and all that descend from it."""
    root = int(os.environ.get(_ROOT_VARIABLE, os.getpid()))
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with _real_open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = {os.getpid()}, [root]
    while todo:
        process = todo.pop()
        found.add(process)
        todo += children.get(process, [])
    return sorted(found)


def _place(path: Any, folder: int | None = None) -> str:
    """Where a path leads to, but not what it links to."""
    text = os.fsdecode(path)
    if folder is not None and not os.path.isabs(text):
        text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
    parent, name = os.path.split(os.path.abspath(text))
    return os.path.join(os.path.realpath(parent), name)


def _refuse(code: int, said: str, path: str) -> None:
    kind = {_ALREADY_EXISTS: errno.EEXIST, _NO_PRIVILEGE: errno.EINVAL, _NO_LINKS: errno.EINVAL}
    number = kind.get(code, errno.EINVAL if code == _IS_MAPPED else errno.EACCES)
    error = OSError(number, f"[WinError {code}] {said}", path)
    error.winerror = code  # type: ignore[attr-defined]
    raise error


def _check_taken(place: str, held: _Held) -> None:
    """Raise where what is at `place` cannot get another name."""
    facts = os.lstat(place)
    if stat.S_ISDIR(facts.st_mode):
        inside = held.below(place)
        if inside is not None:
            _refuse(_ACCESS_DENIED, f"Access is denied: {inside} is held", place)
    elif (facts.st_dev, facts.st_ino) in held.opened:
        _refuse(_SHARING_VIOLATION, "Another process is using the file", place)


def _check_removed(place: str, held: _Held, code: int) -> None:
    """Raise where the file at `place` cannot go."""
    facts = os.lstat(place)
    if stat.S_ISDIR(facts.st_mode):
        _refuse(_ACCESS_DENIED, "Access is denied: it is a folder", place)
    if stat.S_ISREG(facts.st_mode):
        if not facts.st_mode & stat.S_IWUSR:
            _refuse(_ACCESS_DENIED, "Access is denied: it is read-only", place)
        if (facts.st_dev, facts.st_ino) in held.opened:
            _refuse(code, "Another process is using the file", place)
        if (facts.st_dev, facts.st_ino) in held.mapped:
            _refuse(_ACCESS_DENIED, "Access is denied: a mapping of the file is open", place)


def _replace(src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None):
    old, new = _place(src, src_dir_fd), _place(dst, dst_dir_fd)
    if os.path.lexists(old):
        held = _Held()
        _check_taken(old, held)
        if old != new and os.path.lexists(new):
            _check_removed(new, held, _ACCESS_DENIED)
    return _REAL["replace"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def _rename(src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None):
    old, new = _place(src, src_dir_fd), _place(dst, dst_dir_fd)
    if os.path.lexists(old):
        _check_taken(old, _Held())
        if old != new and os.path.lexists(new):
            _refuse(_ALREADY_EXISTS, "The file exists already", new)
    return _REAL["rename"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def _unlink(path: Any, *, dir_fd: int | None = None):
    place = _place(path, dir_fd)
    if os.path.lexists(place):
        _check_removed(place, _Held(), _SHARING_VIOLATION)
    return _REAL["unlink"](path, dir_fd=dir_fd)


def _rmdir(path: Any, *, dir_fd: int | None = None):
    place = _place(path, dir_fd)
    if any(f"{folder}/".startswith(f"{place}/") for folder in _Held().current):
        _refuse(_SHARING_VIOLATION, "A process has it as its current folder", place)
    return _REAL["rmdir"](path, dir_fd=dir_fd)


def _truncate(path: Any, length: int):
    if not isinstance(path, int):
        _check_cut(_place(path))
    return _REAL["truncate"](path, length)


def _open(file: Any, mode: str = "r", *arguments: Any, **options: Any):
    if "w" in mode and not isinstance(file, int):
        _check_cut(_place(file))
    return _real_open(file, mode, *arguments, **options)


def _check_cut(place: str) -> None:
    try:
        facts = os.stat(place)
    except (OSError, ValueError):
        return
    if stat.S_ISREG(facts.st_mode) and (facts.st_dev, facts.st_ino) in _Held().mapped:
        _refuse(_IS_MAPPED, "A mapping of the file is open", place)


def _symlink(_: Any, dst: Any, *__: Any, **___: Any):
    _refuse(_NO_PRIVILEGE, "A required privilege is not held by the client", os.fsdecode(dst))


def _no_link(_: Any, dst: Any, **__: Any):
    _refuse(_NO_LINKS, "Incorrect function", os.fsdecode(dst))
