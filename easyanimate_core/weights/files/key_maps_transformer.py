"""Tensor names of the denoiser in the original layout and in diffusers'.

The networks here use the original names. The two layouts differ in the text half of an MMDiT block:
the original has a second attention module `attn2`, whose layers diffusers puts into `attn1`.
"""

from __future__ import annotations

import re

#: (original, diffusers) parts of names within `transformer_blocks.N.`.
TEXT_ATTENTION = (
    ("attn2.to_q.", "attn1.add_q_proj."),
    ("attn2.to_k.", "attn1.add_k_proj."),
    ("attn2.to_v.", "attn1.add_v_proj."),
    ("attn2.to_out.0.", "attn1.to_add_out."),
    ("attn2.norm_q.", "attn1.norm_added_q."),
    ("attn2.norm_k.", "attn1.norm_added_k."),
)

_BLOCK = re.compile(r"^(transformer_blocks\.\d+\.)(.*)$")


def to_original(name: str) -> str:
    """The original name of a denoiser tensor named in either layout."""
    return _rename(name, {diffusers: original for original, diffusers in TEXT_ATTENTION})


def to_diffusers(name: str) -> str:
    """Diffusers' name of a denoiser tensor named in either layout."""
    return _rename(name, dict(TEXT_ATTENTION))


def _rename(name: str, parts: dict[str, str]) -> str:
    match = _BLOCK.match(name)
    if match is None:
        return name
    block, rest = match.groups()
    for source, target in parts.items():
        if rest.startswith(source):
            return block + target + rest[len(source) :]
    return name
