"""Records of finished work, one JSON line each, that survive a crash at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ...errors import InputError
from ...files import (
    DATASET_BYTES,
    json_value,
    patiently,
    read_bytes,
    remove,
    text_of,
    write_error,
)


class Record(Protocol):
    """A dataclass with plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Record)

_REMEDY = "Delete the line; the work that it records is repeated."


class Journal(Generic[R]):
    """A file of records of one dataclass, oldest first, made with fixed settings.

    The first line contains the settings, every other line a record. A line is on disk when `add`
    returns; a line cut off by a crash is dropped when the file is opened again.
    """

    def __init__(
        self,
        path: Path,
        record: type[R],
        *,
        settings: Mapping[str, object] | None = None,
        remedy: str = "",
    ) -> None:
        """Open the journal, which may not exist yet.

        Raises:
            InputError: It was made with other settings (the message ends with `remedy`), or a line
                is damaged.
        """
        self.path = path
        self._record = record
        self._head = {"settings": dict(settings or {})}
        self.records: list[R] = []
        if path.exists():
            self._read(remedy)

    def add(self, record: R) -> None:
        """Append a record, on disk first."""
        lines = [] if self.path.exists() else [self._head]
        text = "".join(_line(line) for line in [*lines, asdict(record)])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with patiently(lambda: self.path.open("ab")) as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error
        self.records.append(record)

    def _read(self, remedy: str) -> None:
        content = read_bytes(self.path, error=InputError, limit=DATASET_BYTES)
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        if not whole:
            remove(self.path)
            return
        values = [self._parsed(line, n) for n, line in enumerate(whole.splitlines(), start=1)]
        self._check_settings(values[0].get("settings"), remedy)
        self.records = [self._made(value, n) for n, value in enumerate(values[1:], start=2)]

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        name = f"{self.path}, line {number}, is damaged: it"
        text = text_of(line, name, error=InputError, remedy=_REMEDY)
        return json_value(text, dict, name, error=InputError, remedy=_REMEDY)

    def _made(self, value: dict[str, Any], number: int) -> R:
        try:
            return self._record(**value)
        except TypeError as error:
            raise self._damaged(number, str(error)) from error

    def _check_settings(self, before: object, remedy: str) -> None:
        now = json_value(json.dumps(self._head["settings"]), dict, "Settings", error=InputError)
        if before == now:
            return
        if not isinstance(before, dict):
            raise self._damaged(1, "the settings are missing")
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        said = ", ".join(f"{n} is {now.get(n)!r} and was {before.get(n)!r}" for n in names)
        raise InputError(f"{self.path} was made with other settings: {said}. {remedy}")

    def _damaged(self, number: int, why: str) -> InputError:
        return InputError(f"{self.path}, line {number}, is damaged ({why}). {_REMEDY}")


def _line(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
