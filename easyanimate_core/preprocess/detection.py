"""A request for a control signal: its kind and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InputError
from .kinds import KINDS, Kind, Value

_RESOLUTIONS = (64, 4096)

#: Short side of the images that pose and depth networks were trained on.
NETWORK_SIDE = 512


@dataclass(frozen=True)
class Detection:
    """A kind of control signal, its options, and the short side at which it is detected.

    `resolution=None` depends on the kind: lines are detected at the size of the result, so that
    they are not rescaled, and everything else at `NETWORK_SIDE`.
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
                f"resolution is {self.resolution}; it must be from {low} to {high}, or automatic: "
                "0 in the node, auto on the command line."
            )
        object.__setattr__(self, "options", self.facts.complete(self.options))

    @property
    def facts(self) -> Kind:
        """The kind's entry in `KINDS`."""
        return KINDS[self.kind]
