"""CLIP as open_clip stores it, renamed to transformers' layout. HPS v2 and v2.1 are such files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..weights.files import read_tensor_files
from .clip import Clip, clip_of_tensors, load_tokenizer

#: Of ViT-H/14, in both of its parts; no shape tells it.
HEADS = 16

_WHOLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
_NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
#: Stored with inputs first.
_TURNED = ("visual.proj", "text_projection")


def read_hps(file: Path, tokenizer: Path, device: torch.device, dtype: torch.dtype) -> Clip:
    """HPS v2 or v2.1, ViT-H/14, from its file and the folder of a CLIP tokenizer.

    Raises:
        CheckpointError: One of them is missing, damaged or something else.
    """
    words = load_tokenizer(tokenizer)
    tensors = in_transformers_names(read_tensor_files(file, pickles=True).read())
    model = clip_of_tensors(tensors, words, heads=HEADS, file=file)
    return Clip(model.to(device, dtype), words, whole=True)


def in_transformers_names(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an open_clip state dict by transformers' names; others are left out."""
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        layer, _, kind = name.rpartition(".")
        block = _BLOCK.fullmatch(name)
        if name in _WHOLE:
            found[_WHOLE[name]] = tensor.T.contiguous() if name in _TURNED else tensor
        elif layer in _NORMS:
            found[f"{_NORMS[layer]}.{kind}"] = tensor
        elif block is not None:
            part = "vision_model" if block[1] else "text_model"
            found |= _of_block(f"{part}.encoder.layers.{block[2]}", block[3], tensor)
    return found


def _of_block(block: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    layer, _, kind = name.rpartition(".")
    if layer in _IN_BLOCK:
        return {f"{block}.{_IN_BLOCK[layer]}.{kind}": tensor}
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        parts = zip("qkv", tensor.chunk(3), strict=False)
        return {f"{block}.self_attn.{letter}_proj.{kind}": part for letter, part in parts}
    return {f"{block}.{name}": tensor}
