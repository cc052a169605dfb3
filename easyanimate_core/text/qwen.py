"""V5.1's text encoder: the penultimate hidden state of Qwen2-VL's language model.

The vision tower, the last layer, the final norm and the LM head do not affect that state, so they
are neither built nor loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.loading import build_on_meta
from ..weights.stored import Stored
from .embedding import TextEmbedding, check_prompts, network_device
from .encoder_config import qwen_config
from .tokenize import ChatTokenizer, check_vocabulary, report_removed
from .weights import Placement, check_filled, fill_network

_LAYER = re.compile(r"layers\.(\d+)\.")


class QwenTextEncoder:
    """Encodes each prompt as a chat, right-padded to 256 tokens, to the penultimate state."""

    def __init__(self, network: nn.Module, tokenizer: ChatTokenizer) -> None:
        self.network = network
        self.tokenizer = tokenizer

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The language model."""
        return (self.network,)

    def encode(
        self, prompts: Sequence[str], *, device: torch.device | str | None = None
    ) -> TextEmbedding:
        """Encode a batch. `text` is [B, 256, hidden size] in the weights' dtype."""
        check_prompts(prompts)
        tokens = self.tokenizer.tokenize_prompts(prompts)
        report_removed(tokens.removed, "Qwen2-VL", self.tokenizer.max_tokens)
        where = device or network_device(self.network)
        mask = tokens.mask.to(where)
        text = self._hidden_state(tokens.ids.to(where), mask)
        return TextEmbedding(text=text, mask=mask, truncated=tokens.removed)

    def chat(self, prompt: str) -> str:
        """The prompt as a chat: system message, user turn, start of the answer."""
        return self.tokenizer.chat(prompt)

    @torch.no_grad()
    def _hidden_state(self, ids: Tensor, mask: Tensor) -> Tensor:
        # Text has the same position in time, height and width. Passed explicitly, because
        # transformers releases differ in the positions of padding.
        positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
        return self.network(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state


def qwen_from_tensors(
    config: Mapping[str, Any],
    tensors: Mapping[str, Stored],
    tokenizer: ChatTokenizer,
    *,
    placement: Placement | None = None,
) -> QwenTextEncoder:
    """Build the encoder from a Qwen2-VL `config.json` (flat or nested) and its tensors."""
    placement = placement or Placement()
    text_config = library_config(qwen_config(config)).get_text_config()
    num_layers = text_config.num_hidden_layers - 1
    text_config.num_hidden_layers = num_layers
    if hasattr(text_config, "layer_types"):
        text_config.layer_types = text_config.layer_types[:num_layers]
    check_vocabulary(tokenizer, text_config.vocab_size, "Qwen2-VL")
    make = text_class()
    network: Any = build_on_meta(lambda: make(text_config), what="Qwen2-VL text encoder")
    network.norm = nn.Identity()

    def rename(key: str) -> str | None:
        name = plain_name(key)
        layer = _LAYER.match(name)
        last_layer = layer is not None and int(layer[1]) == num_layers
        unused = name == "norm.weight" or name.startswith(("visual.", "lm_head."))
        return None if last_layer or unused else name

    fill_network(network, tensors, rename, name="Qwen2-VL", placement=placement)
    restore_rotary(network, text_config, placement.device)
    check_filled(network, placement)
    return QwenTextEncoder(network, tokenizer)


def text_class() -> Any:
    """The class of Qwen2-VL's text network.

    Before transformers 4.52 the class had the name of today's whole model.
    """
    from transformers.models.qwen2_vl import modeling_qwen2_vl

    network_class = getattr(modeling_qwen2_vl, "Qwen2VLTextModel", None)
    return modeling_qwen2_vl.Qwen2VLModel if network_class is None else network_class


def library_config(config: Mapping[str, Any]) -> Any:
    """The config object of a flat Qwen2-VL config.

    Before transformers 5 it had `rope_scaling` and `rope_theta` instead of `rope_parameters`.
    """
    import transformers

    stated = dict(config)
    if int(transformers.__version__.partition(".")[0]) < 5 and stated.get("rope_parameters"):
        rope = dict(stated.pop("rope_parameters"))
        stated["rope_theta"] = rope.pop("rope_theta", stated.get("rope_theta", 1_000_000.0))
        stated["rope_scaling"] = {
            "type": "mrope",
            "mrope_section": rope.get("mrope_section", [16, 24, 24]),
        }
    config_class: Any = transformers.Qwen2VLConfig
    return config_class.from_dict(stated)


def plain_name(stored: str) -> str:
    """A tensor's name without the prefixes that differ between releases and files."""
    return stored.removeprefix("model.").removeprefix("language_model.")


def restore_rotary(network: nn.Module, text_config: Any, device: torch.device | str) -> None:
    """Compute the rotary frequencies, which are not stored, of a network built on "meta".

    Before transformers 5 every layer has its own.
    """
    for module in list(network.modules()):
        if hasattr(module, "rotary_emb"):
            rotary: Any = type(module.rotary_emb)
            module.rotary_emb = rotary(config=text_config).to(device)
