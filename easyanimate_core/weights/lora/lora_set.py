"""The LoRAs of a run: checked against its denoiser, and what they change together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...errors import printable
from .blocks import BlockStrengths, num_blocks
from .changes import Change, LowRank, joined
from .file import Lora, read_lora


class LoraSet:
    """LoRAs of one denoiser, read and checked against it.

    `reports` has a sentence about every LoRA's coverage.
    """

    def __init__(self, changes: Mapping[str, Sequence[Change]], reports: tuple[str, ...]) -> None:
        self._changes = changes
        self.reports = reports

    @classmethod
    def read(cls, loras: Sequence[Lora], shapes: Mapping[str, tuple[int, ...]]) -> LoraSet:
        """Read the files.

        Args:
            loras: What to use, in any order.
            shapes: Of the denoiser's matrices by module; see `matrix_shapes`.

        Raises:
            CheckpointError: A file is missing, damaged, or does not fit the denoiser, or holds
                values that are not finite.
            InputError: A block is named that the denoiser does not have.
        """
        changes: dict[str, list[Change]] = {}
        reports = []
        for lora in loras:
            file = read_lora(lora, shapes)
            strengths = BlockStrengths.parse(lora.blocks)
            strengths.check(num_blocks(set(shapes)))
            own = {
                module: Change(layer, lora.strength * strengths.factor(module))
                for module, layer in file.layers.items()
            }
            active = {module: change for module, change in own.items() if change.strength != 0}
            for module, change in active.items():
                changes.setdefault(module, []).append(change)
            reports.append(f"{printable(file.name)}: {file.report(len(active))}")
        return cls(changes, tuple(reports))

    @property
    def modules(self) -> tuple[str, ...]:
        """The layers that are changed; those with strength 0 are not among them."""
        return tuple(self._changes)

    def changes(self, module: str) -> Sequence[Change]:
        """What each LoRA does to one of `modules`."""
        return self._changes[module]

    def low_rank(self, module: str) -> LowRank | None:
        """The low-rank changes of one of `modules` as one; None without any."""
        low = [change for change in self._changes[module] if change.is_low_rank]
        return joined(low) if low else None

    def delta(self, module: str, weight_OI: Tensor | None = None) -> Tensor:
        """What is added to the weight of one of `modules`: [O, I] in float32.

        `weight_OI` is that weight, which DoRA and changes of a bias alone ask for.
        """
        first, *others = (change.delta(weight_OI) for change in self._changes[module])
        return sum(others, first)

    def bias_delta(self, module: str) -> Tensor | None:
        """What is added to the bias of one of `modules`; None where it stays as it is."""
        found = [
            change.strength * change.layer.bias.float()
            for change in self._changes[module]
            if change.layer.bias is not None
        ]
        return sum(found[1:], found[0]) if found else None
