"""Which of a network's tensors may be quantised."""

from __future__ import annotations

from collections.abc import Sequence


def may_be_quantized(name: str, shape: Sequence[int]) -> bool:
    """Whether a denoiser's tensor (original name) may be quantised.

    Only the matrices of attention and feed-forward are. Norms and their modulation, the text and
    time embeddings, and the first and last projection are not (10 % of the 7B's values, 8 % of the
    12B's), because an error there affects every token.
    """
    inside = name.startswith("transformer_blocks.") and name.endswith(".weight")
    return inside and len(shape) == 2 and "norm" not in name
