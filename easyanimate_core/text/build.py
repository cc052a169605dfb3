"""Builds the text encoder of a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import CheckpointError
from ..models.specs import Version
from ..progress import Progress, silent
from .bert_t5 import BertT5TextEncoder, bert_from_tensors, t5_from_tensors
from .embedding import TextEncoder
from .qwen import qwen_from_tensors
from .tokenize import load_bert_tokenizer, load_qwen_tokenizer, load_t5_tokenizer
from .weights import Placement, read_config, read_weights


def check_text_encoder(folder: Path, version: Version, *, use_attention_mask: bool) -> None:
    """Raise the same `CheckpointError` as `build_text_encoder`, without reading weights."""
    build_text_encoder(
        folder,
        version,
        use_attention_mask=use_attention_mask,
        dtype=torch.float32,
        device="meta",
    )


def build_text_encoder(
    folder: Path,
    version: Version,
    *,
    use_attention_mask: bool,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    quantization: str = "none",
    progress: Progress = silent,
) -> TextEncoder:
    """Read the text encoder of a checkpoint folder (original or diffusers layout).

    V5.1 reads `text_encoder/` and `tokenizer/`, V5 also `text_encoder_2/` and `tokenizer_2/`.
    `use_attention_mask` is the denoiser's `enable_text_attention_mask`; `dtype=None` keeps the
    stored dtype; `quantization`, one of `memory.QUANTIZATIONS`, applies to the linear layers.
    Nothing is downloaded. Raises `CheckpointError` if a file is missing, damaged, pickled or
    belongs to another model.
    """
    placement = Placement(dtype, device, progress, quantization)
    if version is Version.V5_1:
        if not use_attention_mask:
            raise CheckpointError(
                "The denoiser's config.json has enable_text_attention_mask = False; V5.1's text "
                "encoder needs the mask, so it must be True. This is a different model."
            )
        config = read_config(folder / "text_encoder", model_types=("qwen2_vl",))
        tokenizer = load_qwen_tokenizer(folder / "tokenizer")
        tensors = read_weights(folder / "text_encoder")
        return qwen_from_tensors(config, tensors, tokenizer, placement=placement)
    bert_config = read_config(folder / "text_encoder", model_types=("bert",))
    t5_config = read_config(folder / "text_encoder_2", model_types=("mt5", "t5"))
    bert = bert_from_tensors(
        bert_config,
        read_weights(folder / "text_encoder"),
        load_bert_tokenizer(folder / "tokenizer"),
        placement=placement,
    )
    t5 = t5_from_tensors(
        t5_config,
        read_weights(folder / "text_encoder_2"),
        load_t5_tokenizer(folder / "tokenizer_2"),
        placement=placement,
    )
    return BertT5TextEncoder(bert, t5, use_attention_mask=use_attention_mask)
