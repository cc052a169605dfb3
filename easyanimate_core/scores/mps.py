"""MPS: a preference score that looks at the words of a prompt that a list of aspects concerns.

Source: Zhang et al., "Learning Multi-Dimensional Human Preference for Text-to-Image Generation",
arXiv 2405.14705. Parameters are named as in the published state dict.

Shapes: N pictures, P tokens of a picture, T tokens of a text, C channels, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..weights.files import read_tensor_files
from .clip import Clip, clip_of_tensors, load_tokenizer, unit
from .open_clip import HEADS

#: The aspects of the "overall" score, in the words that it was trained with.
_ASPECTS = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, "
    "structure, instance, texture, quantity, attributes, position, number, location, word, things."
)
#: A word counts if its similarity to an aspect is above this share of the largest.
_CONCERNED = 0.01
_CLIP, _CROSS = "model.", "cross_model."
#: Made anew by the network, or not needed.
_LEFT_OUT = ("position_ids", "inv_freq")


class Mps:
    """MPS, from its state dict and the folder of a CLIP tokenizer."""

    def __init__(
        self, file: Path, tokenizer: Path, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Load the networks.

        Raises:
            CheckpointError: One of them is missing, damaged or something else.
        """
        words = load_tokenizer(tokenizer)
        stored = read_tensor_files(file, pickles=True).read()
        kept = [name for name in stored if not name.endswith(_LEFT_OUT)]
        clip = {n.removeprefix(_CLIP): stored[n] for n in kept if n.startswith(_CLIP)}
        model = clip_of_tensors(clip, words, heads=HEADS, file=file)
        self._clip = Clip(model.to(device, dtype), words, whole=True)
        cross = {n.removeprefix(_CROSS): stored[n] for n in kept if n.startswith(_CROSS)}
        self._cross = _load_cross(cross, file).to(device, dtype)
        self._texts: dict[str, tuple[Tensor, ...]] = {}

    def __call__(self, pixels_N3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """The cosine similarity [N] of each picture in [0, 1] with its prompt."""
        known = [self._text(prompt) for prompt in prompts]
        words, mask, whole = (torch.cat(parts) for parts in zip(*known, strict=True))
        model = self._clip.model
        seen = model.vision_model(self._clip.seen(pixels_N3HW)).last_hidden_state
        tokens = self._cross(model.visual_projection(seen), words, mask)
        return (unit(tokens[:, 0]) * whole).sum(-1)

    @torch.no_grad()
    def _text(self, prompt: str) -> tuple[Tensor, Tensor, Tensor]:
        """The prompt's words [1, T, C], which of them count [1, T], and its unit vector [1, C]."""
        if prompt not in self._texts:
            model = self._clip.model
            found = model.text_model(self._clip.tokens([prompt, _ASPECTS]))
            words, aspects = model.text_projection(found.last_hidden_state).split(1)
            likeness = (aspects.float() @ words.float().mT).amax(1)
            counts = likeness / likeness.amax(1, keepdim=True) > _CONCERNED
            whole = unit(model.text_projection(found.pooler_output[:1]))
            self._texts[prompt] = (words, counts, whole)
        words, counts, whole = self._texts[prompt]
        return words, counts, whole


class Cross(nn.Module):
    """Layers in which a picture's tokens look at the words and then at each other."""

    def __init__(self, width: int, head: int, heads: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList((_Beside(_Words(width, head, heads)), _Beside(_Self(width, head, heads))))
            for _ in range(num_layers)
        )

    def forward(self, x_NPC: Tensor, words_NTC: Tensor, counts_NT: Tensor) -> Tensor:
        """Shape unchanged."""
        layers: Any = self.layers
        for across, within in layers:
            x_NPC = x_NPC + across.fn(x_NPC, words_NTC, counts_NT)
            x_NPC = x_NPC + within.fn(x_NPC)
        return x_NPC


class _Beside(nn.Module):
    """Gives a layer the name that the file has."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn


class _Norm(nn.Module):
    """A layer norm; its `bias` is stored and zero."""

    bias: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)


class _Gated(nn.Module):
    """The first half times SiLU of the second."""

    def forward(self, x: Tensor) -> Tensor:
        x, gate = x.chunk(2, dim=-1)
        return F.silu(gate) * x


class _Words(nn.Module):
    """Attention to the words that count and a feed-forward; all heads share key and value."""

    def __init__(self, width: int, head: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm = _Norm(width)
        self.to_q = nn.Linear(width, heads * head, bias=False)
        self.to_kv = nn.Linear(width, 2 * head, bias=False)
        self.to_out = nn.Linear(heads * head, width, bias=False)
        self.ff = nn.Sequential(
            nn.Linear(width, 8 * width, bias=False),
            _Gated(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, x_NPC: Tensor, words_NTC: Tensor, counts_NT: Tensor) -> Tensor:
        x_NPC = self.norm(x_NPC)
        q = self.to_q(x_NPC).unflatten(-1, (self._heads, -1)).transpose(1, 2)
        k, v = self.to_kv(words_NTC).unsqueeze(1).expand(-1, self._heads, -1, -1).chunk(2, dim=-1)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=counts_NT[:, None, None])
        return self.to_out(found.transpose(1, 2).flatten(2)) + self.ff(x_NPC)


class _Self(nn.Module):
    """Attention of the tokens to each other, rotated by their places, and a feed-forward."""

    def __init__(self, width: int, head: int, heads: int) -> None:
        super().__init__()
        self._heads, self._head = heads, head
        self.norm = _Norm(width)
        self._widths = (heads * head, head, head, 8 * width)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self._widths), bias=False)
        self.attn_out = nn.Linear(heads * head, width, bias=False)
        self.ff_out = nn.Sequential(_Gated(), nn.Linear(4 * width, width, bias=False))

    def forward(self, x_NPC: Tensor) -> Tensor:
        q, k, v, inner = self.fused_attn_ff_proj(self.norm(x_NPC)).split(self._widths, dim=-1)
        q = q.unflatten(-1, (self._heads, -1)).transpose(1, 2)
        k, v = (part.unsqueeze(1).expand(-1, self._heads, -1, -1) for part in (k, v))
        waves = _waves(x_NPC.shape[1], self._head, x_NPC.device)
        q, k = (_rotated(part, waves).to(v) for part in (q, k))
        found = F.scaled_dot_product_attention(q, k, v)
        return self.attn_out(found.transpose(1, 2).flatten(2)) + self.ff_out(inner)


def _waves(count: int, width: int, device: torch.device) -> Tensor:
    """Angles [count, width]: the first half of the channels again in the second."""
    rates = 10_000 ** (-torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(count, device=device)[:, None] * rates
    return torch.cat([angles, angles], dim=-1)


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    first, second = x.float().chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()


def _load_cross(tensors: dict[str, Tensor], file: Path) -> Any:
    try:
        kv = tensors["layers.0.0.fn.to_kv.weight"]
        inner, width = tensors["layers.0.0.fn.to_q.weight"].shape
        layers = {name.split(".")[1] for name in tensors}
        head = len(kv) // 2
        with torch.device("meta"):
            network = Cross(width, head, inner // head, len(layers))
        network.load_state_dict(tensors, assign=True)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError) as error:
        said = " ".join(str(error).split())[:400]
        raise CheckpointError(
            f"{file} does not contain MPS ({type(error).__name__}: {said}). Use its state dict, "
            "MPS_overall.pth of EasyAnimate's reward training, or a copy as .safetensors."
        ) from error
    return network.eval().requires_grad_(requires_grad=False)
