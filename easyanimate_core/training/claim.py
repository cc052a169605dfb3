"""The folder of a run: held by one process at a time, and cleared only on request."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import EasyAnimateError, InputError, MediaError, counted
from ..files import atomic_file, discard, read_json, rename, write_error
from ..files.leftovers import is_unfinished, temporary_name
from .account import ACCOUNT_FILE
from .checkpoints import STATES, Checkpoints
from .config import CACHE
from .samples import SAMPLES
from .saved_loras import LORAS
from .terms import terms
from .tracking import CURVES_FILE, LOG_FILE, Report

CONFIG_FILE = "config.json"
RESULT = "result"
#: What has changed at each resumption, a line for each.
HISTORY_FILE = "history.log"
_LOCK_FILE, _OWNER_FILE = "run.lock", "run.owner"
#: What an earlier run consists of, apart from its config and its caches.
_PARTS = (
    STATES, LORAS, SAMPLES, "validation", RESULT, "tensorboard", LOG_FILE, CURVES_FILE,
    HISTORY_FILE, ACCOUNT_FILE,
)  # fmt: skip


@contextmanager
def held(folder: Path, report: Report) -> Iterator[None]:
    """Keep other runs out of `folder`; the lock is released however this process ends.

    Raises:
        InputError: Another run uses the folder.
        MediaError: The folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    is_new = not folder.exists()
    lock = FileLock(folder / _LOCK_FILE, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"{folder} is in use by another run{_owner(folder)}. Wait for it, stop it, or "
                f"{terms().elsewhere}."
            ) from None
        except NotImplementedError:
            report(f"note: {folder} cannot be locked on its disk: start no second run in it.")
    except OSError as error:
        raise write_error(folder / _LOCK_FILE, error) from error
    try:
        with suppress(MediaError):  # it only names the owner
            _write_owner(folder)
        yield
    finally:
        discard(folder / _OWNER_FILE)
        if is_new and {path.name for path in folder.iterdir()} <= {_LOCK_FILE}:
            discard(folder)
        lock.release()


def check_is_free(folder: Path) -> None:
    """Raise `InputError` if a folder without a run contains anything."""
    known = (CACHE, _LOCK_FILE, _OWNER_FILE)
    if folder.is_dir() and any(
        path.name not in known and not is_unfinished(path.name)  # another process may probe it
        for path in folder.iterdir()
    ):
        raise InputError(
            f"{folder} is not empty and contains no run. Empty it, or {terms().elsewhere}."
        )


@dataclass(frozen=True)
class Earlier:
    """The run in a folder: its states, whether it has a result, and the bytes of it all."""

    folder: Path
    states: tuple[int, ...]
    has_result: bool
    num_bytes: int

    @classmethod
    def of(cls, folder: Path) -> Earlier:
        """The run in `folder`."""
        present = [folder / name for name in _PARTS if (folder / name).exists()]
        files = [f for part in present for f in (part, *part.rglob("*")) if f.is_file()]
        states = Checkpoints(folder / STATES, 1).steps()
        size = sum(file.stat().st_size for file in files)
        return cls(folder, tuple(states), (folder / RESULT).is_dir(), size)

    @property
    def is_begun(self) -> bool:
        """Whether there is anything that a new run would have to fit or to replace."""
        return bool(self.states) or self.has_result

    def __str__(self) -> str:
        what = [f"{counted(self.states[-1], 'step')} done" if self.states else "no state"]
        if self.states:
            after = ", ".join(map(str, self.states))
            what.append(f"states after step {after}")
        what.append("its result" if self.has_result else "no result yet")
        return f"{self.folder} contains a run: {'; '.join(what)}; {self.num_bytes / 1e6:,.1f} MB"


def claim(folder: Path, config: str, *, restart: bool) -> None:
    """Make `folder` the run's with this `config`; `restart` deletes an earlier run first."""
    path = folder / CONFIG_FILE
    if restart and path.is_file():
        _remove_all(folder, _PARTS)
    with atomic_file(path) as scratch:
        scratch.write_text(config, encoding="utf-8")


def record(folder: Path, step: int, lines: Sequence[str]) -> None:
    """Add to the history of a run what changed when it was resumed after `step`."""
    if not lines:
        return
    path = folder / HISTORY_FILE
    try:
        with path.open("a", encoding="utf-8") as opened:
            opened.writelines(f"after step {step}: {' '.join(line.split())}\n" for line in lines)
    except OSError as error:
        raise write_error(path, error) from error


def _write_owner(folder: Path) -> None:
    with atomic_file(folder / _OWNER_FILE, spare=False) as scratch:
        owner = {"process": os.getpid(), "machine": platform.node()}
        scratch.write_text(json.dumps(owner), encoding="utf-8")


def _owner(folder: Path) -> str:
    try:
        owner = read_json(folder / _OWNER_FILE, dict, error=InputError)
        return f" (process {int(owner['process'])} on {str(owner['machine'])[:100]})"
    except (EasyAnimateError, KeyError, TypeError, ValueError):
        return ""


def _remove_all(folder: Path, names: Sequence[str]) -> None:
    """Delete parts of an earlier run, all or none of them: each is renamed first."""
    aside: dict[Path, Path] = {}
    for part in (folder / name for name in names):
        if not part.exists():
            continue
        aside[part] = folder / temporary_name(part.name)
        try:
            rename(part, aside[part])
        except OSError as error:
            del aside[part]
            for moved, place in aside.items():
                rename(place, moved)
            raise MediaError(
                f"{part} cannot be deleted: {error.strerror or error}. Another program has it "
                "or a file in it open. Close that program or choose another output. Nothing was "
                "deleted."
            ) from error
    for place in aside.values():
        discard(place)
