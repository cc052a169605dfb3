"""The core's text encoders as a native CLIP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import shorten
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ...easyanimate_core.errors import InputError
from ...easyanimate_core.text import TextEmbedding, TextEncoder, check_states
from ...easyanimate_core.text.writer import PromptWriter
from ...easyanimate_core.weights.stored import QuantizedLinear, dequantized, plain_tensors
from .shown import TEXT_T5

#: Key of the tokens passed from tokenizer to model.
PROMPTS = "easyanimate_prompts"
#: Keys in a CONDITIONING entry: its prompt, and the truncated words.
PROMPT = "easyanimate_prompt"
TRUNCATED = "easyanimate_truncated"
_SHOWN = 160  # characters of the truncated words

_SWAPS = {
    nn.Linear: comfy.ops.manual_cast.Linear,
    nn.LayerNorm: comfy.ops.manual_cast.LayerNorm,
    nn.Conv3d: comfy.ops.manual_cast.Conv3d,
}


class _Embedding(comfy.ops.manual_cast.Embedding):
    """Returns states in the compute dtype, whatever dtype the table has."""

    compute_dtype = torch.float32

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids, out_dtype=self.compute_dtype)


class _ScaledLinear(comfy.ops.manual_cast.Linear):
    """A layer with an int8 or fp8 weight; one scale per output channel multiplies the product.

    Thus ComfyUI streams and casts a plain weight. The bias is kept separately, to be added last.
    """

    weight_scale: Tensor
    bias_after: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        product = super().forward(x)
        product = product * self.weight_scale.to(product)
        if self.bias_after is not None:
            product = product + self.bias_after.to(product)
        return product


class Prompts:
    """Takes the tokenizer's place and passes texts on, because the core's encoders take texts.

    Weights such as `(word:1.2)` are plain text: the models were not trained with them.
    """

    def __init__(self, **_: Any) -> None:
        pass

    def tokenize_with_weights(
        self,
        text: str,
        return_word_ids: bool = False,  # noqa: ARG002
        **_: Any,
    ) -> dict[str, list[str]]:
        """Return the text itself."""
        return {PROMPTS: [text]}

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing to save with the weights."""
        return {}


class TextModel(nn.Module):
    """The networks of a core text encoder, with ComfyUI's layers."""

    def __init__(self, encoder: TextEncoder, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.networks = nn.ModuleList(encoder.networks)
        self.encoder = encoder
        self.dtypes = {parameter.dtype for parameter in self.parameters()}
        self.device_used: torch.device | None = None
        #: Reads the whole language model from the same files; None if they have none.
        self.make_writer: Callable[..., PromptWriter] | None = None
        for network in self.networks:
            use_comfy_layers(network, compute_dtype)

    def set_clip_options(self, options: Mapping[str, Any]) -> None:
        """Set the device; these encoders have no choice of layer."""
        layer = options.get("layer")
        if layer is not None:
            raise InputError(
                f"CLIP Set Last Layer selects layer {layer}, but EasyAnimate always uses the layer "
                "that it was trained with. Remove that node."
            )
        self.device_used = options.get("execution_device", self.device_used)

    def reset_clip_options(self) -> None:
        """Reset to the device of the weights."""
        self.device_used = None

    def encode_token_weights(
        self, tokens: Mapping[str, list[str]]
    ) -> tuple[Tensor, None, dict[str, Any]]:
        """States [1, T, D], no pooled output, and a dict with V5's second states and a report."""
        if PROMPTS not in tokens:
            raise InputError(
                f"The text was prepared for another text encoder ({', '.join(tokens)}). Use CLIP "
                "Text Encode or EasyAnimate Text Encode."
            )
        where = self.device_used or next(self.parameters()).device
        bring_leftovers(self, where)
        embedding = self.encoder.encode(tokens[PROMPTS], device=where)
        check_states(embedding)
        extra: dict[str, Any] = {PROMPT: tokens[PROMPTS][0], TRUNCATED: _truncated(embedding)}
        device = comfy.model_management.intermediate_device()
        if embedding.text_t5 is not None:
            extra[TEXT_T5] = embedding.text_t5.to(device)
        return embedding.text.to(device), None, extra

    def load_sd(self, sd: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:  # noqa: ARG002
        """Do nothing: the weights are already loaded."""
        return [], []


def make_clip(
    encoder: TextEncoder, load_device: torch.device, *, disable_dynamic: bool = False
) -> comfy.sd.CLIP:
    """A CLIP object of ComfyUI around a core text encoder."""
    model = TextModel(encoder, compute_dtype(load_device))
    target = _Target(model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    options = {"load_device": load_device, "dtype": next(iter(model.dtypes))}
    if load_device.type == "cpu":
        options["offload_device"] = load_device
    # Only releases with dynamic loading have this argument, and only they pass it.
    plain = {"disable_dynamic": True} if disable_dynamic else {}
    return comfy.sd.CLIP(target, parameters=parameters, model_options=options, **plain)


class _Target:
    """What `comfy.sd.CLIP` expects: parameters, a tokenizer class and a model class."""

    def __init__(self, model: TextModel) -> None:
        self.params: dict[str, Any] = {}
        self.tokenizer = Prompts
        self.clip = lambda **_: model


def compute_dtype(device: torch.device) -> torch.dtype:
    """The compute dtype of a text encoder on a device.

    Never float16, because its states would overflow; layers cast weights one by one, so float32
    takes no more memory for them.
    """
    if device.type == "cpu":
        return torch.float32
    bf16 = comfy.model_management.should_use_bf16(device)
    return torch.bfloat16 if bf16 else torch.float32


def _truncated(embedding: TextEmbedding) -> str:
    cut = (text for text in (*embedding.truncated, *embedding.truncated_t5) if text)
    return " / ".join(repr(shorten(text, _SHOWN, placeholder=" ...")) for text in cut)


def use_comfy_layers(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert the layers of a transformers model to ComfyUI's, which cast and stream weights.

    T5 reads the device of its small position table, which is therefore left unchanged.
    """
    for name, module in network.named_modules():
        if type(module) is QuantizedLinear:
            _use_scaled_layer(module, dtype, keep=not name.endswith(".wo"))
        elif type(module) in _SWAPS:
            module.__class__ = _SWAPS[type(module)]
        elif type(module) is nn.Embedding and not name.endswith("relative_attention_bias"):
            module.__class__ = _Embedding
            module.bias, module.compute_dtype = None, dtype
        elif type(module).__name__ in ("Qwen2RMSNorm", "T5LayerNorm", "MT5LayerNorm"):
            module.eps, module.bias = module.variance_epsilon, None
            module.normalized_shape = tuple(module.weight.shape)
            module.elementwise_affine = True
            module.__class__ = comfy.ops.manual_cast.RMSNorm


def _use_scaled_layer(layer: Any, dtype: torch.dtype, *, keep: bool) -> None:
    """Convert a quantised layer of the core to one of ComfyUI's.

    T5 casts the input of its `wo` projections to their weight's dtype, so these are dequantised.
    """
    if not keep:
        layer.weight = nn.Parameter(dequantized(layer.weight).to(dtype), requires_grad=False)
        layer.__class__ = comfy.ops.manual_cast.Linear
        return
    values_OI, scale_O1 = plain_tensors(layer.weight)
    layer.weight = nn.Parameter(values_OI, requires_grad=False)
    layer.weight_scale = nn.Parameter(scale_O1.flatten(), requires_grad=False)
    layer.register_parameter("bias_after", layer.bias)
    layer.bias = None
    layer.__class__ = _ScaledLinear


def bring_leftovers(model: nn.Module, device: torch.device) -> None:
    """Move what is not in ComfyUI's layers (position tables, frequencies) to the device."""
    for module in model.modules():
        if hasattr(module, "comfy_cast_weights"):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
