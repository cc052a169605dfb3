"""What is asked for: a kind of control signal with its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InputError
from .kinds import KINDS, Kind, Value

_RESOLUTIONS = (64, 4096)

#: Short side of the pictures that networks of people and of depth were made for.
NETWORK_SIDE = 512


@dataclass(frozen=True)
class Detection:
    """What is to be found, with which options, and on pictures of which short side.

    `resolution` None fits the kind: lines are looked for at the size of the result, so that they
    come out as they are drawn, and the rest on pictures of `NETWORK_SIDE`.
    """

    kind: str
    resolution: int | None = None
    options: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind is {self.kind!r}; it must be one of {', '.join(KINDS)}.")
        low, high = _RESOLUTIONS
        if self.resolution is not None and not low <= self.resolution <= high:
            raise InputError(
                f"resolution is {self.resolution}; it must be from {low} to {high}, or left to "
                "the kind: 0 in the node, auto on the command line."
            )
        object.__setattr__(self, "options", self.facts.complete(self.options))

    @property
    def facts(self) -> Kind:
        """The kind's row of the table."""
        return KINDS[self.kind]
