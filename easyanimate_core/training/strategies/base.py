"""The trainer's interface to a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ...progress import Progress
from ...text import Cut
from ..data.buckets import Batches, Draw
from ..data.loading import Lost

#: Turns what this process can do into what all that do it together can do.
Agree = Callable[[list[int]], list[int]]
#: A network's state dict.
Weights = Mapping[str, Tensor]


@dataclass
class Batch:
    """The clips of one batch on one device.

    `position` is the index of the batch in the run, the same on all `ranks` devices. `content`
    belongs to the strategy; `clips` and `tokens` are counted for the throughput.
    """

    position: int
    rank: int
    ranks: int
    clips: int
    tokens: int
    content: Any

    @property
    def slots(self) -> range:
        """Indices of this device's clips among those of all devices."""
        return range(self.rank, self.clips * self.ranks, self.ranks)

    def own(self, drawn: Tensor) -> Tensor:
        """This device's rows of random values drawn for the `clips * ranks` clips of all devices.

        Thus two devices use the same values as one device with twice the batch size.
        """
        return drawn[self.rank :: self.ranks]

    def noise(self, size: Sequence[int], random: np.random.Generator) -> Tensor:
        """Gaussian noise of `size` for each of this device's clips, on the CPU; see `own`."""
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        return self.own(torch.randn((self.clips * self.ranks, *size), generator=generator))


@dataclass(frozen=True)
class Losses:
    """`total` is minimised; `parts` are plotted."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Strategy(Protocol):
    """A task. The trainer owns the loop, optimisers and states, and is independent of the task."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks to train, by name, in the order in which a step updates them."""

    def encode_ahead(self, device: torch.device, share: slice, progress: Progress) -> None:
        """Run large frozen networks, before training takes the memory.

        Each device does its `share` of the work.
        """

    def cut(self, captions: Sequence[str]) -> tuple[Cut, ...]:
        """What the text encoders, if any, leave out of captions that are too long for them."""

    def order(self, ranks: int) -> Batches:
        """The batches of the run on `ranks` devices; raises `InputError` if a clip fits none."""

    def batches(self, rank: int, ranks: int, position: int) -> Iterator[list[Draw]]:
        """The endless draws of one rank, after the first `position` batches."""

    @property
    def read(self) -> Callable[[Sequence[Draw]], Any]:
        """The function that makes the content of a batch on the CPU.

        It is pickled for other processes, so it must not refer to a network.
        """

    @property
    def lost(self) -> Lost:
        """The clips that batches missed because they could no longer be read."""

    def prepare(self, batch: Batch, device: torch.device) -> None:
        """Do what a step needs without gradients: encode, move to the device, draw."""

    def loss(self, name: str, networks: Mapping[str, nn.Module], batch: Batch) -> Losses | None:
        """The loss of network `name`; None if it learns nothing from this batch."""

    def validate(
        self, networks: Mapping[str, nn.Module], step: int, folder: Path | None, agree: Agree
    ) -> dict[str, float]:
        """Metrics of held-out clips by name; images and videos are written to `folder`, if any.

        Clips are measured that can be read where `agree` asks.
        """

    def write_result(
        self,
        networks: Mapping[str, nn.Module],
        weights: Mapping[str, Weights],
        folder: Path,
        step: int,
    ) -> list[Path]:
        """Write the result of `step` steps, ready to be loaded, to the new `folder`.

        Returns the paths written. `weights` are whole, those of `networks` may be sharded.
        """


class SamplingStrategy(Strategy, Protocol):
    """A task whose networks make something of a prompt, and can be trained as a LoRA."""

    def write_lora(self, weights: Weights, path: Path, step: int) -> None:
        """Write the LoRA after `step` steps, ready to be used, to the file `path`."""

    def sample(
        self, networks: Mapping[str, nn.Module], progress: Progress, agree: Agree
    ) -> tuple[str, Tensor]:
        """A prompt, and the frames [F, H, W, 3] in [0, 1] that the networks make of it.

        Raises `MediaError` before the networks run, in all processes that `agree` asks, if what
        else they are shown cannot be read.
        """
