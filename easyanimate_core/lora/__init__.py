"""LoRA files: whose names they use, what they change, and how they are added."""

from .attach import attached
from .blocks import BlockStrengths, num_blocks
from .low_rank import Lora, LoraSet, LowRank, matrix_shapes
from .merge import MERGED_DTYPES, merge_loras
from .names import LoraMatch, match_lora

__all__ = [
    "MERGED_DTYPES",
    "BlockStrengths",
    "Lora",
    "LoraMatch",
    "LoraSet",
    "LowRank",
    "attached",
    "match_lora",
    "matrix_shapes",
    "merge_loras",
    "num_blocks",
]
