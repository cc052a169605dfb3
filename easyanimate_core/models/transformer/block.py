"""One block of the MMDiT: modulated joint attention, then modulated feed-forward.

Shapes: B batch, T text tokens, V video tokens, C width, E width of the time embedding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import ManualCast, Operations, gelu
from ..precision import within_range
from ..specs import TransformerConfig
from .attention import Attention, joint_attention
from .kernel import AttentionFunction
from .rope import RotaryTable

FEED_FORWARD_RATIO = 4


class TransformerBlock(nn.Module):
    """Joint attention and feed-forward; `mmdit` blocks have separate weights for the text."""

    def __init__(
        self, config: TransformerConfig, *, mmdit: bool, operations: Operations, **factory: Any
    ) -> None:
        super().__init__()
        dim, heads = config.inner_dim, config.num_attention_heads
        layers: dict[str, Any] = {"operations": operations, **factory}
        self.norm1 = ModulatedNorm(config, **layers)
        self.attn1 = Attention(dim, heads, **layers)
        self.attn2 = Attention(dim, heads, **layers) if mmdit else None
        self.norm2 = ModulatedNorm(config, **layers)
        self.ff = FeedForward(dim, **layers)
        self.txt_ff = FeedForward(dim, **layers) if mmdit else None
        self.norm3 = None
        if config.after_norm:
            self.norm3 = operations.LayerNorm(dim, eps=config.norm_eps, **factory)

    def forward(
        self,
        video_BVC: Tensor,
        text_BTC: Tensor,
        time_BE: Tensor,
        *,
        rope: RotaryTable,
        kernel: AttentionFunction,
        compute: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """The two streams after this block, shapes unchanged.

        All inputs are in `wide(compute)`; attention and feed-forward are computed in `compute`.
        """
        video, text, video_gate, text_gate = self.norm1(video_BVC, text_BTC, time_BE)
        attend = partial(
            joint_attention,
            video_attention=self.attn1,
            text_attention=self.attn2,
            rope=rope,
            kernel=kernel,
        )
        video, text = within_range(attend, video, text, compute=compute)
        video_BVC = torch.addcmul(video_BVC, video_gate, video)
        text_BTC = torch.addcmul(text_BTC, text_gate, text)

        video, text, video_gate, text_gate = self.norm2(video_BVC, text_BTC, time_BE)
        video, text = within_range(self._feed_forward, video, text, compute=compute)
        if self.norm3 is not None:
            video, text = self.norm3(video), self.norm3(text)
        return (
            torch.addcmul(video_BVC, video_gate, video),
            torch.addcmul(text_BTC, text_gate, text),
        )

    def _feed_forward(self, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.ff(video), (self.ff if self.txt_ff is None else self.txt_ff)(text)


class ModulatedNorm(nn.Module):
    """Layer norm of both streams, with shift, scale and gate from the time embedding.

    The kernel computes in float32 regardless of the input's dtype.
    """

    def __init__(
        self, config: TransformerConfig, *, operations: Operations, **factory: Any
    ) -> None:
        super().__init__()
        self.linear = operations.Linear(config.time_embed_dim, 6 * config.inner_dim, **factory)
        self.norm = operations.LayerNorm(config.inner_dim, eps=config.norm_eps, **factory)

    def forward(
        self, video_BVC: Tensor, text_BTC: Tensor, time_BE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised video and text, then their gates [B, 1, C]."""
        modulation = self.linear(F.silu(time_BE)).unsqueeze(1)
        shift, scale, gate, text_shift, text_scale, text_gate = modulation.chunk(6, dim=-1)
        video = torch.addcmul(shift, self.norm(video_BVC), 1 + scale)
        text = torch.addcmul(text_shift, self.norm(text_BTC), 1 + text_scale)
        return video, text, gate, text_gate


class FeedForward(nn.Module):
    """Linear, GELU (tanh), linear; `net` is indexed as in the checkpoints."""

    def __init__(self, dim: int, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        inner = dim * FEED_FORWARD_RATIO
        self.net = nn.ModuleList(
            [
                _ProjectedGelu(dim, inner, operations=operations, **factory),
                nn.Identity(),  # in place of the dropout
                operations.Linear(inner, dim, **factory),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape unchanged."""
        return self.net[2](self.net[0](x))


class _ProjectedGelu(nn.Module):
    def __init__(self, dim: int, inner: int, *, operations: Operations, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(dim, inner, **factory)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.proj, ManualCast.Linear):  # not a host's layer
            return self.proj.with_gelu(x)
        return gelu(self.proj(x))
