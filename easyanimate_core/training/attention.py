"""The attention kernel that learns fastest where it runs.

Shapes: B batch, N tokens, H heads, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.transformer import scaled_dot_product

#: Of the matrix of scores [B, H, N, N]; larger ones would fill the memory.
_MOST_SCORES = 2**26


def training_attention(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    """Softmax attention [B, N, H * D] that goes back fast through bfloat16 on a processor too.

    There PyTorch's fused kernel takes three times as long as products of whole matrices (AVX-512,
    204 tokens). Long sequences and graphics cards keep PyTorch's choice.
    """
    scores = q_BHND[..., 0].numel() * q_BHND.shape[2]
    autocast = q_BHND.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if not autocast or scores > _MOST_SCORES:
        return scaled_dot_product(q_BHND, k_BHND, v_BHND)
    scale = q_BHND.shape[-1] ** -0.5
    weights_BHNN = torch.softmax(q_BHND * scale @ k_BHND.mT, dim=-1)
    return (weights_BHNN @ v_BHND).transpose(1, 2).flatten(2)
