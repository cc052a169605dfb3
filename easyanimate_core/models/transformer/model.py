"""The MMDiT denoiser of EasyAnimate V5 and V5.1, for all heads.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width, T text tokens,
V = F * H/2 * W/2 video tokens, E width of the time embedding.

Source: aigc-apps/EasyAnimate, easyanimate/models/transformer3d.py; arXiv 2405.18991. Parameters are
named as in the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...errors import InputError
from ..ops import ManualCast, Operations
from ..precision import wide
from ..specs import TransformerConfig
from .block import TransformerBlock
from .kernel import AttentionFunction, scaled_dot_product
from .rope import RotaryTable, Stretch, rotary_table

TEXT_NORM_EPS = 1e-6
MAX_PERIOD = 10000


#: A block as a function that maps (video [B, V, C], text [B, T, C]) to the same shapes.
RunBlock = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class AroundBlock(Protocol):
    """A host's hook around each block, to skip, replace or observe it."""

    def __call__(
        self, index: int, run: RunBlock, video_BVC: Tensor, text_BTC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The two streams after block `index`, which `run` computes."""


class EasyAnimateTransformer3DModel(nn.Module):
    """Predicts the velocity (V5.1: flow, V5: v) of a noisy latent video.

    Args:
        config: Configuration of the network.
        operations: Namespace of layers (`ops.ManualCast` or ComfyUI's).
        dtype: Storage dtype of the weights.
        device: Where the weights are created; "meta" if they are assigned afterwards.
    """

    #: The layers that FSDP shards one by one; accelerate reads this attribute.
    _no_split_modules = ("TransformerBlock",)

    def __init__(
        self,
        config: TransformerConfig,
        *,
        operations: Operations = ManualCast,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        factory: dict[str, Any] = {"dtype": dtype, "device": device}
        layers: dict[str, Any] = {"operations": operations, **factory}
        dim, patch = config.inner_dim, config.patch_size
        self.time_embedding = TimeEmbedding(dim, config.time_embed_dim, **layers)
        self.proj = operations.Conv2d(config.in_channels, dim, patch, stride=patch, **factory)
        self.text_proj = _text_projection(config, config.text_embed_dim, layers)
        if config.text_embed_dim_t5 is not None:
            self.text_proj_t5 = _text_projection(config, config.text_embed_dim_t5, layers)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(config, mmdit=index < config.num_mmdit_layers, **layers)
            for index in range(config.num_layers)
        )
        self.norm_final = operations.LayerNorm(dim, eps=config.norm_eps, **factory)
        self.norm_out = OutputNorm(config, **layers)
        self.proj_out = operations.Linear(dim, patch * patch * config.out_channels, **factory)

    def forward(
        self,
        sample_BCFHW: Tensor,
        timestep_B: Tensor,
        text: Tensor,
        *,
        text_t5: Tensor | None = None,
        condition: Tensor | None = None,
        rope: RotaryTable | None = None,
        attention: AttentionFunction = scaled_dot_product,
        around_block: AroundBlock | None = None,
    ) -> Tensor:
        """The predicted velocity, [B, C, F, H, W].

        Args:
            sample_BCFHW: Noisy latents.
            timestep_B: Timestep of each sample, 0 to 1000, float.
            text: States of the text encoder, [B, T, text_embed_dim].
            text_t5: States of V5's second text encoder, [B, T2, text_embed_dim_t5].
            condition: Condition channels, [B, config.condition_channels, F, H, W].
            rope: Result of `rotary_table`; computed if None.
            attention: Attention kernel for this call.
            around_block: Called instead of each block, which it may run, change or skip. In
                float16, the streams that it receives are in float32.

        Raises:
            InputError: A tensor's shape does not fit this head.
        """
        self._check(sample_BCFHW, text, text_t5, condition)
        if rope is None:
            rope = self.rotary_table(sample_BCFHW)

        compute = sample_BCFHW.dtype
        around = wide(compute)  # the dtype outside the blocks' attention and feed-forward
        time_BE = self.time_embedding(timestep_B, dtype=around)
        video_BVC = self._embed_video(sample_BCFHW, condition)
        text_BTC = self.text_proj(text.to(around))
        if text_t5 is not None:
            text_BTC = torch.cat([text_BTC, self.text_proj_t5(text_t5.to(around))], dim=1)
        for index, block in enumerate(self.transformer_blocks):
            run = partial(block, time_BE=time_BE, rope=rope, kernel=attention, compute=compute)
            if around_block is None:
                video_BVC, text_BTC = run(video_BVC, text_BTC)
            else:
                video_BVC, text_BTC = around_block(index, run, video_BVC, text_BTC)
        video_BVC = self.norm_out(self.norm_final(video_BVC), time_BE)
        tokens_BVP = self.proj_out(video_BVC)
        if around is not compute:
            tokens_BVP = tokens_BVP.to(compute)
        return self._unpatchify(tokens_BVP, self._token_grid(sample_BCFHW))

    def rotary_table(self, sample_BCFHW: Tensor, stretch: Stretch | None = None) -> RotaryTable:
        """The rotary table for latents of this shape, on their device."""
        return rotary_table(
            self.config.attention_head_dim,
            self._token_grid(sample_BCFHW),
            patch_size=self.config.patch_size,
            device=sample_BCFHW.device,
            stretch=stretch,
        )

    def _token_grid(self, sample_BCFHW: Tensor) -> tuple[int, int, int]:
        """Latent frames, token rows and token columns."""
        frames, height, width = sample_BCFHW.shape[2:]
        patch = self.config.patch_size
        return frames, height // patch, width // patch

    def _embed_video(self, sample_BCFHW: Tensor, condition: Tensor | None) -> Tensor:
        if condition is not None:
            sample_BCFHW = torch.cat([sample_BCFHW, condition], dim=1)
        sample_BCFHW = sample_BCFHW.to(wide(sample_BCFHW.dtype))
        patches = self.proj(sample_BCFHW.transpose(1, 2).flatten(0, 1))
        tokens = rearrange(patches, "(b f) c h w -> b (f h w) c", b=len(sample_BCFHW))
        return tokens.contiguous()  # a single frame's would be strided in every block

    def _unpatchify(self, tokens_BVP: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Tokens of C * p * q values (patches of p rows, q columns) to latents [B, C, F, H, W]."""
        frames, rows, columns = grid
        patch = self.config.patch_size
        pattern = "b (f h w) (c p q) -> b c f (h p) (w q)"
        return rearrange(tokens_BVP, pattern, f=frames, h=rows, w=columns, p=patch, q=patch)

    def _check(
        self, sample: Tensor, text: Tensor, text_t5: Tensor | None, condition: Tensor | None
    ) -> None:
        config = self.config
        patch = config.patch_size
        if sample.ndim != 5 or sample.shape[1] != config.out_channels:
            raise InputError(
                f"The latents have shape {tuple(sample.shape)}; the denoiser takes "
                f"[batch, {config.out_channels}, frames, height, width]."
            )
        if sample.shape[3] % patch or sample.shape[4] % patch:
            raise InputError(
                f"The latents are {sample.shape[3]} x {sample.shape[4]}; both sides must be "
                f"multiples of {patch} (pixels: of {patch * 8})."
            )
        if text.shape[-1] != config.text_embed_dim:
            raise InputError(
                f"The text states are {text.shape[-1]} wide; this denoiser takes "
                f"{config.text_embed_dim}. Use the text encoder of {config.version.value}."
            )
        if (text_t5 is None) != (config.text_embed_dim_t5 is None):
            need = "needs" if text_t5 is None else "does not take"
            raise InputError(
                f"A {config.version.value} denoiser {need} T5 text states. Use the text encoder of "
                f"{config.version.value}."
            )
        found = 0 if condition is None else condition.shape[1]
        if found != config.condition_channels:
            raise InputError(
                f"The condition has {found} channels; the {config.head.value} head takes "
                f"{config.condition_channels}."
            )


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep through two linear layers, [B] to [B, E]."""

    def __init__(
        self, channels: int, time_embed_dim: int, *, operations: Operations, **factory: Any
    ) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = operations.Linear(channels, time_embed_dim, **factory)
        self.linear_2 = operations.Linear(time_embed_dim, time_embed_dim, **factory)

    def forward(self, timestep_B: Tensor, *, dtype: torch.dtype) -> Tensor:
        """Cosines first, then sines, computed in float32 and cast to `dtype`."""
        half = self.channels // 2
        steps = torch.arange(half, dtype=torch.float32, device=timestep_B.device)
        angles = timestep_B.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) / half * steps)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))


class OutputNorm(nn.Module):
    """The last layer norm, shifted and scaled by the time embedding."""

    def __init__(
        self, config: TransformerConfig, *, operations: Operations, **factory: Any
    ) -> None:
        super().__init__()
        self.linear = operations.Linear(config.time_embed_dim, 2 * config.inner_dim, **factory)
        self.norm = operations.LayerNorm(config.inner_dim, eps=config.norm_eps, **factory)

    def forward(self, x_BVC: Tensor, time_BE: Tensor) -> Tensor:
        """Shape unchanged."""
        shift, scale = self.linear(F.silu(time_BE)).unsqueeze(1).chunk(2, dim=-1)
        return torch.addcmul(shift, self.norm(x_BVC), 1 + scale)


def _text_projection(config: TransformerConfig, width: int, layers: dict[str, Any]) -> nn.Module:
    operations = layers["operations"]
    factory = {key: value for key, value in layers.items() if key != "operations"}
    linear: nn.Module = operations.Linear(width, config.inner_dim, **factory)
    if not config.add_norm_text_encoder:
        return linear
    return nn.Sequential(operations.RMSNorm(width, eps=TEXT_NORM_EPS, **factory), linear)
