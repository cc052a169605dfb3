"""The LoRAs of a run, checked against its denoiser, and their combined changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ...errors import printable
from ...models.specs import Head, Version
from .blocks import BlockStrengths, num_blocks
from .changes import Change, LowRank, joined
from .file import Lora, read_lora


class LoraSet:
    """LoRAs of one denoiser, read and checked against it.

    `reports` has a sentence on each LoRA's coverage.
    """

    def __init__(self, changes: Mapping[str, Sequence[Change]], reports: tuple[str, ...]) -> None:
        self._changes = changes
        self.reports = reports

    @classmethod
    def read(
        cls,
        loras: Sequence[Lora],
        shapes: Mapping[str, tuple[int, ...]],
        base: tuple[Version, Head] | None = None,
    ) -> LoraSet:
        """Read the files.

        Args:
            loras: The LoRAs, in any order.
            shapes: Shapes of the denoiser's matrices by module; see `matrix_shapes`.
            base: What the denoiser is; None if that is not known.

        Raises:
            CheckpointError: A file is missing, damaged, does not fit the denoiser or was trained
                for the other version, or contains NaN or infinite values.
            InputError: The denoiser lacks a block that is named.
        """
        changes: dict[str, list[Change]] = {}
        reports = []
        for lora in loras:
            file = read_lora(lora, shapes, base)
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
        """The layers that are changed, without those with strength 0."""
        return tuple(self._changes)

    def changes(self, module: str) -> Sequence[Change]:
        """Each LoRA's change of one of `modules`."""
        return self._changes[module]

    def low_rank(self, module: str) -> LowRank | None:
        """The low-rank changes of one of `modules`, combined; None if there are none."""
        low = [change for change in self._changes[module] if change.is_low_rank]
        return joined(low) if low else None

    def delta(self, module: str, weight_OI: Tensor | None = None) -> Tensor:
        """What is added to the weight of one of `modules`: [O, I] in float32.

        `weight_OI` is that weight; DoRA and changes that affect only the bias need it.
        """
        first, *others = (change.delta(weight_OI) for change in self._changes[module])
        return sum(others, first)

    def bias_delta(self, module: str) -> Tensor | None:
        """What is added to the bias of one of `modules`; None if it does not change."""
        found = [
            change.strength * change.layer.bias.float()
            for change in self._changes[module]
            if change.layer.bias is not None
        ]
        return sum(found[1:], found[0]) if found else None
