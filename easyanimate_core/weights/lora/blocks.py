"""Strengths of a LoRA by block, such as "0-17=0.5,18-35=1"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ...errors import InputError

_ITEM = re.compile(r"(\d+)(?:-(\d+))?=(.+)")
_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.")


@dataclass(frozen=True)
class BlockStrengths:
    """Factors on a LoRA's strength: `ranges` are (first block, last block, factor).

    Everything outside the ranges, including layers outside the blocks, has the factor 1.
    """

    ranges: tuple[tuple[int, int, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> BlockStrengths:
        """Parse "0-17=0.5,18=0": ranges or single blocks with their factors; "" has none.

        Raises:
            InputError: The text does not have this form, or a block occurs twice.
        """
        ranges: list[tuple[int, int, float]] = []
        for item in text.split(",") if text.strip() else ():
            first, last, factor = _parse_item(item.strip(), text)
            for other_first, other_last, _ in ranges:
                if first <= other_last and other_first <= last:
                    raise InputError(
                        f"The block strengths {text!r} name block {max(first, other_first)} twice; "
                        "a block has one factor."
                    )
            ranges.append((first, last, factor))
        return cls(tuple(ranges))

    def check(self, num_blocks: int) -> None:
        """Raise `InputError` if a model with `num_blocks` lacks one of the blocks."""
        for _, last, _ in self.ranges:
            if last >= num_blocks:
                raise InputError(
                    f"The block strengths name block {last}; this model has blocks 0 to "
                    f"{num_blocks - 1}."
                )

    def factor(self, module: str) -> float:
        """The factor for a denoiser's module, such as `transformer_blocks.3.attn1.to_q`."""
        match = _BLOCK.match(module)
        if match is None:
            return 1.0
        block = int(match[1])
        return next((f for first, last, f in self.ranges if first <= block <= last), 1.0)


def num_blocks(modules: set[str]) -> int:
    """Number of blocks of a denoiser with these modules."""
    blocks = [int(match[1]) for name in modules if (match := _BLOCK.match(name))]
    return max(blocks, default=-1) + 1


def _parse_item(item: str, text: str) -> tuple[int, int, float]:
    match = _ITEM.fullmatch(item.replace(" ", ""))
    try:
        first, last, factor = match.groups() if match else ("", "", "nan")
        values = int(first), int(last or first), float(factor)
    except ValueError:
        values = (0, -1, math.nan)
    if values[1] < values[0] or not math.isfinite(values[2]):
        raise InputError(
            f"{item!r} in the block strengths {text!r} is not BLOCK=FACTOR or FIRST-LAST=FACTOR; "
            "an example is 0-17=0.5,18-35=1."
        )
    return values
