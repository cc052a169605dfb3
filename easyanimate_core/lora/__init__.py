"""LoRA files: whose names they use and what they change."""

from .names import LoraMatch, match_lora

__all__ = ["LoraMatch", "match_lora"]
