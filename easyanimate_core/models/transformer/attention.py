"""Joint attention of text and video tokens.

Shapes: B batch, T text tokens, V video tokens, N = T + V, H heads, D head dimension, C = H * D.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..ops import Operations
from .kernel import AttentionFunction
from .rope import RotaryTable, text_and_rotated, with_rotated_video

QK_NORM_EPS = 1e-6


class Attention(nn.Module):
    """Projections and query/key norms of one modality, named as in the checkpoints."""

    def __init__(self, dim: int, heads: int, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        self.heads = heads
        head_dim = dim // heads
        self.norm_q = operations.LayerNorm(head_dim, eps=QK_NORM_EPS, **factory)
        self.norm_k = operations.LayerNorm(head_dim, eps=QK_NORM_EPS, **factory)
        self.to_q = operations.Linear(dim, dim, **factory)
        self.to_k = operations.Linear(dim, dim, **factory)
        self.to_v = operations.Linear(dim, dim, **factory)
        self.to_out = nn.ModuleList([operations.Linear(dim, dim, **factory)])

    def project(self, x_BNC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised queries, normalised keys and values, each [B, N, H, D]."""
        query = self.norm_q(self._split(self.to_q(x_BNC)))
        key = self.norm_k(self._split(self.to_k(x_BNC)))
        return query, key, self._split(self.to_v(x_BNC))

    def _split(self, x_BNC: Tensor) -> Tensor:
        return x_BNC.unflatten(-1, (self.heads, -1))


def joint_attention(
    video_BVC: Tensor,
    text_BTC: Tensor,
    *,
    video_attention: Attention,
    text_attention: Attention | None,
    rope: RotaryTable,
    kernel: AttentionFunction,
) -> tuple[Tensor, Tensor]:
    """Joint attention over text and video tokens; text comes first.

    Without `text_attention`, both modalities share the video's weights. The rotary embedding
    applies to video tokens only. Returns video and text, each in its input's shape.
    """
    num_text = text_BTC.shape[1]
    if text_attention is None:
        query, key, value = video_attention.project(torch.cat([text_BTC, video_BVC], dim=1))
        query = with_rotated_video(query, num_text, rope)
        key = with_rotated_video(key, num_text, rope)
    else:
        video_q, video_k, video_v = video_attention.project(video_BVC)
        text_q, text_k, text_v = text_attention.project(text_BTC)
        query = text_and_rotated(text_q, video_q, rope)
        key = text_and_rotated(text_k, video_k, rope)
        value = torch.cat([text_v, video_v], dim=1)
    out_BNC = kernel(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    output = video_attention.to_out[0]
    if text_attention is None:
        out_BNC = output(out_BNC)  # before slicing: a linear layer copies slices
        return out_BNC[:, num_text:], out_BNC[:, :num_text]
    # Contiguous: a linear layer would copy slices as well, and add its bias apart.
    text_BTC, video_BVC = (part.contiguous() for part in out_BNC.tensor_split([num_text], dim=1))
    return output(video_BVC), text_attention.to_out[0](text_BTC)
