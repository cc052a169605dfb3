"""Names for unfinished files, and removal of those that killed processes left behind.

The name identifies the process that writes the file: the machine, the process id and its start
time. So the next process that writes to the folder knows which files are abandoned.
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

#: Bytes of the target's name that are kept: file systems allow 255 in all, some only 143.
_LONGEST = 90
_NAME = re.compile(
    r"\.(?P<target>.+)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<began>[0-9a-f]+)-[0-9a-f]{8}"
    r"\.(?P<what>part|old)"
)
#: Processes of another machine cannot be checked: a file untouched for this long is abandoned.
_DEAD_AFTER_SECONDS = 24 * 3600


def temporary_name(name: str) -> str:
    """A new hidden name ending in .part, for a file that will become `name`."""
    written = os.fsencode(name)
    if len(written) > _LONGEST:
        name = written[:_LONGEST].decode(sys.getfilesystemencoding(), "ignore")
    pid = os.getpid()
    owner = f"{_machine()}-{pid}-{_began(pid) or 0:x}-{secrets.token_hex(4)}"
    return f".{name}.{owner}.part"


def is_unfinished(name: str) -> bool:
    """Whether `temporary_name` made this name, here or on another machine."""
    return _NAME.fullmatch(name) is not None


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove unfinished files of killed processes in `folder`; with `below`, recursively.

    A folder that was set aside for a replacement that never came gets its name back. Failures are
    ignored: the run does not depend on this.
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
    """This machine or container; process ids mean nothing outside it."""
    names = platform.node()
    with suppress(OSError):
        names += str(Path("/proc/self/ns/pid").readlink())
    return hashlib.blake2b(names.encode(), digest_size=4).hexdigest()


def _began(pid: int) -> int | None:
    """Start time of a process, by a clock that is never adjusted; None if it does not exist."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        return int(text.rpartition(b")")[2].split()[19])  # in clock ticks since boot
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
