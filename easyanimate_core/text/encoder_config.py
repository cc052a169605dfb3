"""The keys of a text encoder's `config.json` that are used, and their allowed values.

All others are dropped: the library has keys that name code, kernels or files to download.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError
from ..files import Rule, check_fields, listed, number, one_of, optional, short, whole
from .tokenizer_files import REMEDY

_WIDTH, _LAYERS, _HEADS = whole(1, 65_536), whole(1, 512), whole(1, 1024)
_VOCABULARY, _POSITIONS = whole(1, 2**22), whole(1, 2**24)
_EPSILON = number(0, 1)
_OFF = one_of(False)

_QWEN: Mapping[str, Rule] = {
    "hidden_size": _WIDTH,
    "intermediate_size": whole(1, 2**20),
    "max_position_embeddings": _POSITIONS,
    "num_attention_heads": _HEADS,
    "num_key_value_heads": _HEADS,
    "num_hidden_layers": whole(2, 512),
    "rms_norm_eps": _EPSILON,
    "rope_theta": number(1, 1e12),
    "vocab_size": _VOCABULARY,
    "hidden_act": one_of("silu"),
    "use_sliding_window": _OFF,
}
#: The patches are of the size that `picture.py` cuts.
_VISION: Mapping[str, Rule] = {
    "depth": _LAYERS,
    "embed_dim": _WIDTH,
    "hidden_size": _WIDTH,
    "hidden_act": one_of("quick_gelu"),
    "in_chans": one_of(3),
    "in_channels": one_of(3),
    "mlp_ratio": whole(1, 64),
    "num_heads": _HEADS,
    "patch_size": one_of(14),
    "spatial_merge_size": one_of(2),
    "temporal_patch_size": one_of(2),
}
_ROPE: Mapping[str, Rule] = {
    "type": one_of("mrope", "default"),
    "rope_type": one_of("mrope", "default"),
    "mrope_section": listed(whole(1, 1024), 3, 3),
    "rope_theta": number(1, 1e12),
}
_FRACTIONS = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta"}
_QWEN_SECTION = (16, 24, 24)  # the default
_BERT: Mapping[str, Rule] = {
    "hidden_size": _WIDTH,
    "intermediate_size": whole(1, 2**20),
    "max_position_embeddings": _POSITIONS,
    "num_attention_heads": _HEADS,
    "num_hidden_layers": _LAYERS,
    "type_vocab_size": whole(1, 1024),
    "vocab_size": _VOCABULARY,
    "layer_norm_eps": _EPSILON,
    "hidden_act": one_of("gelu", "gelu_new", "relu", "silu"),
    "pad_token_id": optional(whole(0, 2**22)),
    "is_decoder": _OFF,
    "position_embedding_type": one_of("absolute"),
}
_T5: Mapping[str, Rule] = {
    "d_model": _WIDTH,
    "d_kv": whole(1, 4096),
    "d_ff": whole(1, 2**20),
    "num_layers": _LAYERS,
    "num_heads": _HEADS,
    "relative_attention_num_buckets": whole(4, 4096),
    "relative_attention_max_distance": whole(2, 2**20),
    "layer_norm_epsilon": _EPSILON,
    "feed_forward_proj": one_of("relu", "gated-gelu", "gated-silu"),
    "vocab_size": _VOCABULARY,
}


def qwen_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language part of a Qwen2-VL config, flat or nested."""
    name = "Qwen2-VL's config.json"
    nested = config.get("text_config")
    stated = {**config, **(nested if isinstance(nested, Mapping) else {})}
    kept = _kept(stated, _QWEN, name)
    for key in ("rope_scaling", "rope_parameters"):
        rope = stated.get(key)
        if rope is not None:
            if not isinstance(rope, Mapping):
                raise CheckpointError(f"{name} has {key} = {short(rope)}; it must be an object.")
            kept[key] = _kept(rope, _ROPE, f"{key} of {name}")
    heads, groups = kept.get("num_attention_heads", 1), kept.get("num_key_value_heads", 1)
    width = kept.get("hidden_size", heads)
    if width % heads or heads % groups or width // heads % 2:
        raise CheckpointError(
            f"{name} has hidden_size = {width}, num_attention_heads = {heads} and "
            f"num_key_value_heads = {groups}; each must be a multiple of the next, and the head "
            "size must be even."
        )
    rope = kept.get("rope_scaling") or kept.get("rope_parameters") or {}
    section = rope.get("mrope_section", _QWEN_SECTION)
    if sum(section) != width // heads // 2:
        raise CheckpointError(
            f"{name} has mrope_section = {section}; its sum must be {width // heads // 2}, half "
            "the head size."
        )
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # nothing is generated
    return {"model_type": "qwen2_vl", **ends, **kept}


def vision_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of Qwen2-VL's vision tower."""
    name = "vision_config of Qwen2-VL's config.json"
    stated = config.get("vision_config")
    if not isinstance(stated, Mapping):
        raise CheckpointError(f"Qwen2-VL's config.json has no vision_config. {REMEDY}")
    kept = _kept(stated, _VISION, name)
    width, heads = kept.get("embed_dim", 1280), kept.get("num_heads", 16)
    if width % heads or width // heads % 4:
        raise CheckpointError(
            f"{name} has embed_dim = {width} and num_heads = {heads}; the first must be a multiple "
            f"of four times the second. {REMEDY}"
        )
    return kept


def bert_config(config: Mapping[str, Any], *, max_tokens: int) -> dict[str, Any]:
    """Bert's config, with at least as many positions as its tokenizer has tokens."""
    kept = _kept(config, _BERT, "Bert's config.json")
    positions = kept.get("max_position_embeddings", max_tokens)
    if positions < max_tokens:
        raise CheckpointError(
            f"Bert's config.json has max_position_embeddings = {positions}, but its tokenizer "
            f"pads to {max_tokens} tokens. Use both folders of the same checkpoint."
        )
    return {"model_type": "bert", **kept}


def t5_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """T5's or mT5's config."""
    kept = _kept(config, _T5, "mT5's config.json")
    buckets = kept.get("relative_attention_num_buckets", 32)
    distance = kept.get("relative_attention_max_distance", 128)
    if distance <= buckets:
        raise CheckpointError(
            f"mT5's config.json has relative_attention_max_distance = {distance}; it must be above "
            f"relative_attention_num_buckets = {buckets}."
        )
    return {"model_type": config.get("model_type", "mt5"), **kept}


def _kept(config: Mapping[str, Any], rules: Mapping[str, Rule], name: str) -> dict[str, Any]:
    check_fields(config, rules, name, CheckpointError)
    kept = {key: config[key] for key in rules if key in config}
    # JSON does not distinguish integers from floats; some transformers releases reject integers.
    return {key: float(value) if key in _FRACTIONS else value for key, value in kept.items()}
