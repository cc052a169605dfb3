"""Text encoders from single files, with configs inferred from the tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..models.specs import Version
from ..weights.files import TensorFiles, read_tensor_files
from ..weights.loading import Renamed
from ..weights.stored import Stored, StoredWeights
from .bert_t5 import BertT5TextEncoder, bert_from_tensors, t5_from_tensors
from .chat import QWEN_CHAT
from .embedding import TextEncoder
from .qwen import qwen_from_tensors
from .tokenize import (
    SentencePieceTokenizer,
    load_bert_tokenizer,
    load_qwen_tokenizer,
)
from .weights import Placement
from .writer import PromptWriter, writer_from_tensors

_QWEN_TABLE = re.compile(r"^(.*)embed_tokens\.weight$")
_BERT_TABLE = re.compile(r"^(.*)embeddings\.word_embeddings\.weight$")
_T5_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
#: mT5's sentencepiece model as bytes, in files repackaged by ComfyUI.
_SPIECE = "spiece_model"
_VISION_INPUT = re.compile(r"^(.*)visual\.patch_embed\.proj\.weight$")
_HEAD_DIM = {"qwen": 128, "bert": 64, "vision": 80}


@dataclass(frozen=True)
class Vocabularies:
    """Folders with the tokenizer files of Qwen2-VL and of V5's Bert."""

    qwen: Path
    bert: Path


def text_encoder_version(tensors: Mapping[str, Any]) -> Version:
    """V5.1 for Qwen2-VL's tensors, V5 for Bert's or mT5's."""
    if _T5_BIAS in tensors or any(map(_BERT_TABLE.match, tensors)):
        return Version.V5
    if any(map(_QWEN_TABLE.match, tensors)):
        return Version.V5_1
    raise CheckpointError(
        f"These {len(tensors)} tensors are not a text encoder of EasyAnimate: V5.1 uses Qwen2-VL, "
        "V5 uses Bert and mT5. Choose another file."
    )


def is_text_encoder(tensors: Mapping[str, Any]) -> bool:
    """Whether the tensors are those of a text encoder of either version."""
    tables = (_QWEN_TABLE, _BERT_TABLE)
    return _T5_BIAS in tensors or any(table.match(name) for table in tables for name in tensors)


def text_encoder_from_files(
    files: tuple[Path, ...],
    vocabularies: Vocabularies,
    *,
    dtype_of: Callable[[Version], torch.dtype | None],
    quantization: str = "none",
) -> TextEncoder:
    """Build V5.1's encoder from Qwen2-VL's file, or V5's from Bert's and mT5's in either order.

    Args:
        files: One or two safetensors files.
        vocabularies: Tokenizers; mT5's must be inside its file, as in ComfyUI's repackaged one.
        dtype_of: Weight dtype for a version; None keeps the stored one.
        quantization: One of `memory.QUANTIZATIONS`, for the linear layers.

    Raises:
        CheckpointError: The files do not belong to one EasyAnimate version, or are incomplete.
    """
    opened = [read_tensor_files(file) for file in files]
    versions = [text_encoder_version(tensors) for tensors in opened]
    if versions == [Version.V5_1]:
        placement = Placement(dtype_of(Version.V5_1), quantization=quantization)
        return _qwen(opened[0], vocabularies.qwen, placement)
    t5 = [tensors for tensors in opened if _T5_BIAS in tensors]
    bert = [tensors for tensors in opened if _T5_BIAS not in tensors]
    if versions != [Version.V5, Version.V5] or len(t5) != 1:
        names = " and ".join(file.name for file in files)
        raise CheckpointError(
            f"{names} do not make up the text encoder of one EasyAnimate version: choose Qwen2-VL "
            "only (V5.1), or Bert and mT5 (V5)."
        )
    placement = Placement(dtype_of(Version.V5), quantization=quantization)
    return _bert_t5(bert[0], t5[0], vocabularies.bert, placement)


def writer_from_file(
    file: Path, vocabulary: Path, *, sees: bool, placement: Placement | None = None
) -> PromptWriter:
    """The prompt writer from a single file of Qwen2-VL; raises as `writer_from_tensors`."""
    files = read_tensor_files(file)
    config = _derived(files, _qwen_config)
    if sees and any(map(_VISION_INPUT.match, files)):
        config["vision_config"] = _derived(files, _vision_config)
    tokenizer = load_qwen_tokenizer(vocabulary, chat=QWEN_CHAT)
    weights = StoredWeights(files)
    return writer_from_tensors(config, weights, tokenizer, sees=sees, placement=placement)


def _vision_config(files: TensorFiles) -> dict[str, Any]:
    start = _name(files, _VISION_INPUT).removesuffix("patch_embed.proj.weight")
    width = files[f"{start}patch_embed.proj.weight"].shape[0]
    hidden = files[f"{start}blocks.0.mlp.fc1.weight"].shape[0]
    return {
        "depth": _layers(files, start + "blocks.{}."),
        "embed_dim": width,
        "hidden_size": files[_name(files, _QWEN_TABLE)].shape[1],
        "mlp_ratio": hidden // width,
        "num_heads": width // _HEAD_DIM["vision"],
    }


def _qwen(files: TensorFiles, vocabulary: Path, placement: Placement) -> TextEncoder:
    config = _derived(files, _qwen_config)
    tokenizer = load_qwen_tokenizer(vocabulary, chat=QWEN_CHAT)
    return qwen_from_tensors(config, StoredWeights(files), tokenizer, placement=placement)


def _derived(files: TensorFiles, read: Callable[[TensorFiles], dict[str, Any]]) -> dict[str, Any]:
    """Infer a config from the tensors; `CheckpointError` if they do not fit."""
    try:
        config = read(files)
    except (LookupError, ValueError, ZeroDivisionError, StopIteration) as error:
        raise CheckpointError(
            f"{files.path.name} lacks tensors of a text encoder, or they have the wrong shape "
            f"({error}). It is damaged or belongs to another model: download it again."
        ) from error
    if not all(config.values()):
        raise CheckpointError(
            f"{files.path.name} has empty tensors. It is damaged: download it again."
        )
    return config


def _qwen_config(files: TensorFiles) -> dict[str, Any]:
    table, hidden = files[_name(files, _QWEN_TABLE)].shape
    layer = _name(files, _QWEN_TABLE).removesuffix("embed_tokens.weight") + "layers.{}."
    first = {part: files[layer.format(0) + part].shape[0] for part in _QWEN_PARTS}
    return {
        "model_type": "qwen2_vl",
        "hidden_size": hidden,
        "intermediate_size": first["mlp.gate_proj.weight"],
        "max_position_embeddings": 32768,
        "num_attention_heads": first["self_attn.q_proj.weight"] // _HEAD_DIM["qwen"],
        "num_key_value_heads": first["self_attn.k_proj.weight"] // _HEAD_DIM["qwen"],
        "num_hidden_layers": _layers(files, layer),
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "rope_theta": 1e6,
        "vocab_size": table,
    }


_QWEN_PARTS = ("mlp.gate_proj.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight")


def _bert_t5(
    bert: TensorFiles, t5: TensorFiles, vocabulary: Path, placement: Placement
) -> TextEncoder:
    if _SPIECE not in t5:
        raise CheckpointError(
            f"{t5.path.name} does not contain {_SPIECE}, mT5's tokenizer. Use ComfyUI's repackaged "
            "file (mt5xl), or the checkpoint folder, which has tokenizer_2/."
        )
    prefix = _bert_prefix(bert)
    names = {name: name.removeprefix(prefix) for name in bert if name.startswith(prefix)}
    reader = bert_from_tensors(
        _derived(bert, _bert_config),
        Renamed(StoredWeights(bert), names.get),
        load_bert_tokenizer(vocabulary),
        placement=placement,
    )
    tensors = StoredWeights(t5)
    spiece = bytes(t5.map()[_SPIECE].numpy().tobytes())
    weights: Mapping[str, Stored] = Renamed(tensors, lambda n: None if n == _SPIECE else n)
    second = t5_from_tensors(
        _derived(t5, _t5_config), weights, SentencePieceTokenizer(spiece), placement=placement
    )
    return BertT5TextEncoder(reader, second, use_attention_mask=Version.V5.masks_text)


def _bert_prefix(files: TensorFiles) -> str:
    return _name(files, _BERT_TABLE).removesuffix("embeddings.word_embeddings.weight")


def _bert_config(files: TensorFiles) -> dict[str, Any]:
    prefix = _bert_prefix(files)
    plain = {name.removeprefix(prefix): files[name].shape for name in files}
    table, hidden = plain["embeddings.word_embeddings.weight"]
    return {
        "model_type": "bert",
        "hidden_size": hidden,
        "intermediate_size": plain["encoder.layer.0.intermediate.dense.weight"][0],
        "max_position_embeddings": plain["embeddings.position_embeddings.weight"][0],
        "num_attention_heads": hidden // _HEAD_DIM["bert"],
        "num_hidden_layers": _layers(plain, "encoder.layer.{}."),
        "vocab_size": table,
    }


def _t5_config(files: TensorFiles) -> dict[str, Any]:
    block = "encoder.block.0.layer."
    buckets, heads = files[_T5_BIAS].shape
    table, d_model = files["shared.weight"].shape
    return {
        "model_type": "mt5",
        "d_ff": files[f"{block}1.DenseReluDense.wi_0.weight"].shape[0],
        "d_kv": files[f"{block}0.SelfAttention.q.weight"].shape[0] // heads,
        "d_model": d_model,
        "feed_forward_proj": "gated-gelu",
        "num_heads": heads,
        "num_layers": _layers(files, "encoder.block.{}."),
        "relative_attention_num_buckets": buckets,
        "vocab_size": table,
    }


def _name(files: Mapping[str, Any], pattern: re.Pattern[str]) -> str:
    return next(name for name in files if pattern.match(name))


def _layers(names: Mapping[str, Any], layer: str) -> int:
    """Count the layers; `layer` is the prefix of their names, with {} for the index."""
    before, after = map(re.escape, layer.split("{}"))
    found = (re.match(rf"{before}(\d{{1,6}}){after}", name) for name in names)
    numbers = {int(match[1]) for match in found if match}
    return next(count for count in range(len(numbers) + 1) if count not in numbers)
