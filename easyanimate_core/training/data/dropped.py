"""Files of a manifest that are not trained on: told at once with their faults, named at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: A drive that is not there has thousands of faults.
_SHOWN = 50


@dataclass(frozen=True)
class Dropped:
    """Tells what is left out through `report`, and keeps the `names`."""

    report: Callable[[str], None]
    names: list[str] = field(default_factory=list)

    def add(self, names: Sequence[str], faults: Sequence[str], what: str) -> None:
        """Tell the faults of the files with these names, after `what` they have in common."""
        if not faults:
            return
        self.names.extend(names)
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        lines = "\n  ".join(faults[:_SHOWN]) + more
        self.report(f"{len(faults)} {what} and are left out:\n  {lines}")
