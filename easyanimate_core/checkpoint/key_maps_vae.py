"""Names of the VAE's tensors in the original layout and in diffusers'.

Both layouts have the same 228 names today, so both lists are empty; they are data for the day when
one side renames. `tests/differential` compares them with diffusers' class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: (regular expression, replacement), applied in order.
ORIGINAL_TO_DIFFUSERS: tuple[tuple[str, str], ...] = ()
DIFFUSERS_TO_ORIGINAL: tuple[tuple[str, str], ...] = ()


def to_diffusers(name: str) -> str:
    """The tensor's name in diffusers' layout."""
    return _rename(name, ORIGINAL_TO_DIFFUSERS)


def to_original(name: str) -> str:
    """The tensor's name in the original layout, which is that of this project's network."""
    return _rename(name, DIFFUSERS_TO_ORIGINAL)


def _rename(name: str, rules: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
