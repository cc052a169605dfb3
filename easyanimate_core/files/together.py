"""Several results of one run: if another program holds one, the others are still written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec

from ..errors import HeldError

P = ParamSpec("P")


class Together:
    """Context manager that raises `HeldError` at the end if any result was held."""

    def __init__(self) -> None:
        self._held: list[HeldError] = []

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None and self._held:
            raise HeldError(" ".join(map(str, self._held)), self._held[0].kept)

    def write(
        self,
        write: Callable[Concatenate[Path, P], Path],
        path: Path,
        *args: P.args,
        **more: P.kwargs,
    ) -> Path:
        """Call `write` on `path`; return its result, or where the file was saved instead."""
        try:
            return write(path, *args, **more)
        except HeldError as error:
            self._held.append(error)
            return error.kept
