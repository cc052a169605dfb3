"""LoRA files: their naming schemes, what they change, and how they are applied."""

from .attach import attached
from .blocks import BlockStrengths, num_blocks
from .card import LoraCard
from .changes import LowRank
from .file import Lora, LoraFile, LoraLayer, matrix_shapes, read_lora
from .lora_set import LoraSet
from .merge import MERGED_DTYPES, merge_loras
from .names import LoraMatch, match_lora

__all__ = [
    "MERGED_DTYPES",
    "BlockStrengths",
    "Lora",
    "LoraCard",
    "LoraFile",
    "LoraLayer",
    "LoraMatch",
    "LoraSet",
    "LowRank",
    "attached",
    "match_lora",
    "matrix_shapes",
    "merge_loras",
    "num_blocks",
    "read_lora",
]
