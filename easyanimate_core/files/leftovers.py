"""Names of unfinished files, and the removal of those that a killed process has left.

A name tells which process writes the file: the machine, the process's number and when it began. So
the next process that writes to the folder knows what nobody will finish any more.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path

from .moving import discard

#: Longest part of a target's own name, in bytes: file systems allow 255 in all, some only 143.
_LONGEST = 90
_NAME = re.compile(
    r"\.(?P<target>.+)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<began>[0-9a-f]+)-[0-9a-f]{8}"
    r"\.(?P<what>part|old)"
)
#: Whether a process of another machine still lives cannot be seen: what rests for so long is dead.
_DEAD_AFTER_SECONDS = 24 * 3600


def temporary_name(name: str) -> str:
    """A new hidden name for what becomes `name`; it ends in .part."""
    written = os.fsencode(name)
    if len(written) > _LONGEST:
        name = written[:_LONGEST].decode(sys.getfilesystemencoding(), "ignore")
    pid = os.getpid()
    owner = f"{_machine()}-{pid}-{_began(pid) or 0:x}-{secrets.token_hex(4)}"
    return f".{name}.{owner}.part"


def is_unfinished(name: str) -> bool:
    """Whether `temporary_name` gave it, here or on another machine."""
    return _NAME.fullmatch(name) is not None


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove what killed processes have left unfinished in `folder`, or anywhere below it too.

    A folder that was put aside to be replaced, and has not been, gets its name back. Nothing that
    is in the way is an error: the run does not depend on it.
    """
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            match = _NAME.fullmatch(name)
            if match is not None:
                with suppress(OSError):
                    _clear(Path(root, name), match)
        if not below:
            return


def _clear(path: Path, match: re.Match[str]) -> None:
    if _is_alive(path, match):
        return
    target = path.with_name(match["target"])
    if match["what"] == "old" and not target.exists():
        path.rename(target)
    else:
        discard(path)


def _is_alive(path: Path, match: re.Match[str]) -> bool:
    if match["machine"] != _machine():
        return time.time() - path.lstat().st_mtime < _DEAD_AFTER_SECONDS
    return _began(int(match["pid"])) == int(match["began"], 16)


@functools.cache
def _machine() -> str:
    """This machine, or this container of it: in another one numbers of processes mean others."""
    names = platform.node()
    with suppress(OSError):
        names += str(Path("/proc/self/ns/pid").readlink())
    return hashlib.blake2b(names.encode(), digest_size=4).hexdigest()


def _began(pid: int) -> int | None:
    """When a process began, in a clock of its machine that nobody sets; None if there is none."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        return int(text.rpartition(b")")[2].split()[19])  # in ticks since the machine began
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
