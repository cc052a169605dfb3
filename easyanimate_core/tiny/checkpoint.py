"""Complete checkpoint folders with random weights, small enough to build in a second.

They have the original layout and every file of a published folder, so all code that reads
checkpoints can be tried without a download. The images that they generate are noise.

Weights are stored in bfloat16, like the published ones, so that loading involves the same cast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..files import atomic_folder, check_folder, read_json
from ..models.specs import (
    LATENT_CHANNELS,
    Head,
    TransformerConfig,
    VAEConfig,
    Version,
    condition_channels,
)
from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit
from ..sampling import PUBLISHED_CONFIG
from ..weights.files.component import write_component, write_transformer, write_vae
from .tokenizers import (
    write_bert_tokenizer,
    write_json,
    write_qwen_tokenizer,
    write_t5_tokenizer,
)

_MARK = "easyanimate_tiny"
_TEXT_DIM = 32
_T5_DIM = 24
_PIPELINES = {
    Head.T2V: "EasyAnimatePipeline",
    Head.INPAINT: "EasyAnimateInpaintPipeline",
    Head.CONTROL: "EasyAnimateControlPipeline",
    Head.CAMERA: "EasyAnimateControlPipeline",
}


def make_tiny(
    path: Path | str,
    *,
    version: Version,
    head: Head,
    reference: bool = True,
    seed: int = 0,
    force: bool = True,
) -> Path:
    """Write a tiny checkpoint folder and return `path`.

    `reference` adds the channels of a reference image to the V5.1 heads that can have one (Control,
    Control-Camera). The same arguments write the same bytes. The folder appears complete or not at
    all; an existing tiny checkpoint at `path` is replaced, unless `force` is False.

    Raises:
        InputError: V5 has no camera head, or `path` contains something else.
        MediaError: `path` is not writable.
    """
    path = Path(path)
    config = _transformer_config(version, head, reference=reference)
    check_folder(path, "tiny checkpoint", _is_tiny, force=force)
    with atomic_folder(path, replace=True) as folder:
        _write_networks(folder, config, seed)
        if version is Version.V5_1:
            _write_qwen(folder, seed + 2)
        else:
            _write_bert_and_t5(folder, seed + 2)
        scheduler = folder / "scheduler"
        scheduler.mkdir()
        write_json(scheduler / "scheduler_config.json", PUBLISHED_CONFIG[version])
        write_json(folder / "model_index.json", _model_index(version, head))
    return path


def _transformer_config(version: Version, head: Head, *, reference: bool) -> TransformerConfig:
    is_flow = version is Version.V5_1
    if head is Head.CAMERA and not is_flow:
        raise InputError(
            f"{version.value} has no {head.value} head; use {Version.V5_1.value} or the head "
            f"{Head.CONTROL.value}."
        )
    return TransformerConfig(
        in_channels=LATENT_CHANNELS + condition_channels(head, reference=reference and is_flow),
        out_channels=LATENT_CHANNELS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        mmdit_layers=2 if is_flow else TransformerConfig.mmdit_layers,
        time_embed_dim=32,
        text_embed_dim=_TEXT_DIM,
        text_embed_dim_t5=None if is_flow else _T5_DIM,
        add_norm_text_encoder=is_flow,
        enable_text_attention_mask=is_flow,
    )


def _is_tiny(path: Path) -> bool:
    try:
        return _MARK in read_json(path / "model_index.json", dict, error=InputError)
    except InputError:
        return False


def _model_index(version: Version, head: Head) -> dict[str, Any]:
    components = {
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen2VLForConditionalGeneration"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"],
    }
    if version is Version.V5:
        components = {
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "BertModel"],
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "BertTokenizer"],
            "tokenizer_2": ["transformers", "T5Tokenizer"],
        }
    return {
        "_class_name": _PIPELINES[head],
        _MARK: True,
        **components,
        "transformer": ["diffusers", "EasyAnimateTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLMagvit"],
    }


def _write_networks(folder: Path, config: TransformerConfig, seed: int) -> None:
    """Write the denoiser and the VAE."""
    meta = torch.device("meta")
    shapes = EasyAnimateTransformer3DModel(config, device=meta).state_dict()
    write_transformer(folder / "transformer", config, _random_weights(shapes, seed))
    vae_config = VAEConfig(
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        spatial_group_norm=config.version is Version.V5_1,
    )
    shapes = AutoencoderKLMagvit(vae_config, device=meta).state_dict()
    write_vae(folder / "vae", vae_config, _random_weights(shapes, seed + 1))


def _write_qwen(folder: Path, seed: int) -> None:
    """Write Qwen2-VL with vision tower and LM head, in the flat layout of published folders."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    special = write_qwen_tokenizer(folder / "tokenizer")
    config = {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|im_end|>"],
        "vision_start_token_id": special["<|vision_start|>"],
        "vision_end_token_id": special["<|vision_end|>"],
        "vision_token_id": special["<|vision_pad|>"],
        "image_token_id": special["<|image_pad|>"],
        "video_token_id": special["<|video_pad|>"],
        "hidden_act": "silu",
        "hidden_size": _TEXT_DIM,
        "intermediate_size": 2 * _TEXT_DIM,
        "max_position_embeddings": 32768,
        "max_window_layers": 3,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vision_config": {
            "depth": 1,
            "embed_dim": 16,
            "hidden_size": _TEXT_DIM,
            "in_chans": 3,
            "mlp_ratio": 2,
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
        "vocab_size": max(special.values()) + 1,
    }
    with torch.device("meta"):
        network = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict(dict(config)))
    shapes = {_flat_qwen_name(key): value for key, value in network.state_dict().items()}
    weights = _random_weights(shapes, seed)
    write_component(folder / "text_encoder", "model.safetensors", config, weights)


def _flat_qwen_name(key: str) -> str:
    """The name in published files: `model.layers...` or `visual...`."""
    return key.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def _write_bert_and_t5(folder: Path, seed: int) -> None:
    from transformers import BertConfig, BertModel, MT5Config, MT5EncoderModel

    bert = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": _TEXT_DIM,
        "intermediate_size": 2 * _TEXT_DIM,
        "max_position_embeddings": 128,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "vocab_size": write_bert_tokenizer(folder / "tokenizer"),
    }
    t5 = {
        "architectures": ["T5EncoderModel"],
        "model_type": "mt5",
        "d_ff": 2 * _T5_DIM,
        "d_kv": 8,
        "d_model": _T5_DIM,
        "feed_forward_proj": "gated-gelu",
        "num_heads": 3,
        "num_layers": 2,
        "vocab_size": write_t5_tokenizer(folder / "tokenizer_2"),
    }
    with torch.device("meta"):
        bert_shapes = BertModel(BertConfig.from_dict(dict(bert))).state_dict()
        t5_shapes = MT5EncoderModel(MT5Config.from_dict(dict(t5))).state_dict()
    del t5_shapes["encoder.embed_tokens.weight"]  # tied to `shared.weight`
    weights = _random_weights(bert_shapes, seed)
    write_component(folder / "text_encoder", "model.safetensors", bert, weights)
    weights = _random_weights(t5_shapes, seed + 1)
    write_component(folder / "text_encoder_2", "model.safetensors", t5, weights)


def _random_weights(shapes: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random weights that preserve the scale of activations: norms 1, matrices 1 / sqrt(fan-in)."""
    generator = torch.Generator("cpu").manual_seed(seed)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name].shape
        values = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            values *= 1 / math.sqrt(math.prod(shape[1:]))
        else:
            values = 0.02 * values + (0.0 if name.endswith("bias") else 1.0)
        weights[name] = values.to(torch.bfloat16)
    return weights
