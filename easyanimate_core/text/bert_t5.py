"""V5's text encoders: Bert (the bilingual CLIP text model of HunyuanDiT) and mT5's encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.loading import build_on_meta
from ..weights.stored import Stored
from .embedding import TextEmbedding, check_prompts, network_device
from .encoder_config import bert_config, t5_config
from .tokenize import Tokenizer, check_vocabulary, report_removed
from .weights import Placement, check_filled, fill_network


@dataclass(frozen=True)
class Reader:
    """One text network with its tokenizer; `name` is for messages."""

    name: str
    network: nn.Module
    tokenizer: Tokenizer


class BertT5TextEncoder:
    """V5's text encoder: the last hidden states of Bert and mT5.

    `use_attention_mask` (the denoiser's `enable_text_attention_mask`) masks the padding.
    """

    def __init__(self, bert: Reader, t5: Reader, *, use_attention_mask: bool) -> None:
        self.bert = bert
        self.t5 = t5
        self.use_attention_mask = use_attention_mask

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Bert and mT5's encoder."""
        return self.bert.network, self.t5.network

    def encode(
        self, prompts: Sequence[str], *, device: torch.device | str | None = None
    ) -> TextEmbedding:
        """Encode a batch: `text` [B, 77, Bert width], `text_t5` [B, 256, mT5 width]."""
        check_prompts(prompts)
        text, mask, truncated = self._read(self.bert, prompts, device)
        text_t5, mask_t5, truncated_t5 = self._read(self.t5, prompts, device)
        return TextEmbedding(text, mask, text_t5, mask_t5, truncated, truncated_t5)

    @torch.no_grad()
    def _read(
        self, reader: Reader, prompts: Sequence[str], device: torch.device | str | None
    ) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        tokens = reader.tokenizer.tokenize(prompts)
        removed = tuple(text.strip() for text in tokens.removed)
        report_removed(removed, reader.name, reader.tokenizer.max_tokens)
        where = device or network_device(reader.network)
        mask = tokens.mask.to(where)
        output = reader.network(
            input_ids=tokens.ids.to(where),
            attention_mask=mask if self.use_attention_mask else None,
        )
        return output.last_hidden_state, mask, removed


def bert_from_tensors(
    config: Mapping[str, Any],
    tensors: Mapping[str, Stored],
    tokenizer: Tokenizer,
    *,
    placement: Placement | None = None,
) -> Reader:
    """Build Bert, without the pooler, from its `config.json` and tensors."""
    from transformers import BertConfig, BertModel

    placement = placement or Placement()
    sizes: Any = BertConfig.from_dict(bert_config(config, max_tokens=tokenizer.max_tokens))
    check_vocabulary(tokenizer, sizes.vocab_size, "Bert")
    network = build_on_meta(
        lambda: BertModel(sizes, add_pooling_layer=False), what="Bert text encoder"
    )

    def rename(key: str) -> str | None:
        # transformers before 4.31 stored the positions 0, 1, 2, ...
        unused = key.startswith("pooler.") or key == "embeddings.position_ids"
        return None if unused else key

    fill_network(network, tensors, rename, name="Bert", placement=placement)
    _restore_bert_buffers(network, placement.device)
    check_filled(network, placement)
    return Reader("Bert", network, tokenizer)


def _restore_bert_buffers(network: nn.Module, device: torch.device | str) -> None:
    """Recompute position and segment ids, which are not stored and have no values on "meta"."""
    embeddings: Any = network.embeddings
    num_positions = embeddings.position_embeddings.num_embeddings
    positions = torch.arange(num_positions, device=device)[None]
    embeddings.position_ids = positions
    embeddings.token_type_ids = torch.zeros_like(positions)


def t5_from_tensors(
    config: Mapping[str, Any],
    tensors: Mapping[str, Stored],
    tokenizer: Tokenizer,
    *,
    placement: Placement | None = None,
) -> Reader:
    """Build the encoder of T5 or mT5 from its `config.json` and tensors.

    In float16, the feed-forward output projection `wo` stays float32, as in transformers: T5's
    activations overflow float16 there.
    """
    from transformers import MT5Config, MT5EncoderModel, T5Config, T5EncoderModel

    placement = placement or Placement()
    # The two differ only in their defaults, which old config.json files rely on.
    is_mt5 = config.get("model_type") == "mt5"
    sizes: Any = (MT5Config if is_mt5 else T5Config).from_dict(t5_config(config))
    check_vocabulary(tokenizer, sizes.vocab_size, "mT5")
    model: Any = MT5EncoderModel if is_mt5 else T5EncoderModel
    network = build_on_meta(lambda: model(sizes), what="mT5 text encoder")
    del network.encoder.embed_tokens  # tied to `shared`; files contain either name or both

    def rename(key: str) -> str | None:
        if key == "encoder.embed_tokens.weight":
            return None if "shared.weight" in tensors else "shared.weight"
        return None if key.startswith(("decoder.", "lm_head.")) else key

    fill_network(network, tensors, rename, name="mT5", placement=placement)
    network.encoder.embed_tokens = network.shared
    if network.shared.weight.dtype == torch.float16:
        for name, module in network.named_modules():
            if name.endswith(".wo"):
                module.float()
    check_filled(network, placement)
    return Reader("mT5", network, tokenizer)
