"""What the trainer asks of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...progress import Progress
from ..data.buckets import Draw

#: A network's state dict.
Weights = Mapping[str, Tensor]


@dataclass
class Batch:
    """Clips of one step on one device.

    `position` numbers the batches of a run and is the same on all `ranks` devices. `content` is
    the strategy's own; `clips` and `tokens` count for the throughput.
    """

    position: int
    rank: int
    ranks: int
    clips: int
    tokens: int
    content: Any

    @property
    def slots(self) -> range:
        """Numbers of this device's clips among those of all devices."""
        return range(self.rank, self.clips * self.ranks, self.ranks)

    def own(self, drawn: Tensor) -> Tensor:
        """This device's rows of what was drawn for the `clips * ranks` clips of all devices.

        Two devices thus learn from the same draws as one with twice the batch.
        """
        return drawn[self.rank :: self.ranks]


@dataclass(frozen=True)
class Losses:
    """`total` is minimised; `parts` are plotted."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Strategy(Protocol):
    """A task. The trainer owns the loop, the optimisers and the checkpoints, and knows no task."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """What is trained, by name, in the order in which a step updates it."""

    def encode_ahead(self, device: torch.device, share: slice, progress: Progress) -> None:
        """What a large network that trains nothing has to do, before training takes the memory.

        Each device does its `share` of it.
        """

    def batches(self, rank: int, ranks: int, position: int) -> Iterator[list[Draw]]:
        """The draws of one rank without end, after the first `position` batches."""

    @property
    def read(self) -> Callable[[Sequence[Draw]], Any]:
        """What makes the content of a batch, on the CPU.

        It is sent to other processes as a pickle, so it knows no network.
        """

    def prepare(self, batch: Batch, device: torch.device) -> None:
        """Everything of a step that needs no gradient: encoding, moving, drawing."""

    def loss(self, name: str, networks: Mapping[str, nn.Module], batch: Batch) -> Losses | None:
        """The loss of network `name`; None where it has nothing to learn from this batch."""

    def validate(
        self, networks: Mapping[str, nn.Module], step: int, folder: Path | None
    ) -> dict[str, float]:
        """Figures of held-out clips by name; pictures and videos go to `folder` if there is one."""

    def write_result(
        self, networks: Mapping[str, nn.Module], weights: Mapping[str, Weights], folder: Path
    ) -> list[Path]:
        """What the run was for, ready to be loaded, in `folder`, which is new; the paths written.

        `weights` are whole, those of `networks` may be a part of them.
        """
