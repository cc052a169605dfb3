"""Qwen2-VL as a whole, from the files of V5.1's text encoder: it answers a chat.

The text encoder needs neither the vision tower nor the last layer and the language head. They are
loaded here, the vision tower only for a picture.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..progress import Progress, silent
from ..weights.loading import build_on_meta
from ..weights.stored import Stored
from .embedding import network_device
from .encoder_config import qwen_config, vision_config
from .picture import Patches
from .qwen import library_config, plain_name, restore_rotary
from .tokenize import ChatTokenizer, check_vocabulary, load_qwen_tokenizer
from .weights import Placement, check_filled, fill_network, read_config, read_weights

_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_ENDS = ("<|im_end|>", "<|endoftext|>")
#: How words are drawn; of repeated ones, fewer.
TEMPERATURE, TOP_K, TOP_P, REPETITION_PENALTY = 0.7, 20, 0.8, 1.05


@dataclass(frozen=True)
class Answer:
    """`ended` is False if the answer was stopped at the limit."""

    text: str
    ended: bool


class PromptWriter:
    """A language model with its head, and with its vision tower if `sees`."""

    def __init__(self, network: Any, tokenizer: ChatTokenizer, *, sees: bool) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.sees = sees

    @torch.no_grad()
    def answer(
        self,
        chat: str,
        *,
        picture: Patches | None = None,
        seed: int,
        max_tokens: int,
        device: torch.device | str | None = None,
        progress: Progress = silent,
    ) -> Answer:
        """Continue `chat`. The same seed gives the same answer; no global state is used.

        Reports the stage "write" after every token.
        """
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        where = device or network_device(self.network)
        backend = self.tokenizer.backend
        ids = torch.tensor([backend(chat, add_special_tokens=False)["input_ids"]], device=where)
        ends = backend.convert_tokens_to_ids(list(_ENDS))
        _forget_positions(self.network)
        written = self.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(
                do_sample=False,  # `_draw` draws
                max_new_tokens=max_tokens,
                repetition_penalty=REPETITION_PENALTY,
                eos_token_id=ends,
                pad_token_id=ends[-1],
            ),
            logits_processor=LogitsProcessorList(_draws(seed)),
            stopping_criteria=StoppingCriteriaList([_reporting(ids, max_tokens, progress)]),
            **self._shown(ids, picture),
        )
        new = written[0, ids.shape[1] :].tolist()
        progress("write", max_tokens, max_tokens)
        text = backend.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(text, ended=bool(new) and new[-1] in ends)

    def _shown(self, ids: Tensor, picture: Patches | None) -> dict[str, Tensor]:
        if picture is None:
            return {}
        shown = {
            "pixel_values": picture.values.to(ids.device),
            "image_grid_thw": picture.grid.to(ids.device),
        }
        # Since transformers 5 the model is told which tokens are a picture's.
        if "mm_token_type_ids" in inspect.signature(self.network.forward).parameters:
            shown["mm_token_type_ids"] = (ids == self.network.config.image_token_id).int()
        return shown


def read_writer(folder: Path, *, sees: bool, placement: Placement | None = None) -> PromptWriter:
    """The writer from a V5.1 checkpoint folder; raises as `writer_from_tensors`."""
    config = read_config(folder / "text_encoder", model_types=("qwen2_vl",))
    tensors = read_weights(folder / "text_encoder")
    tokenizer = load_qwen_tokenizer(folder / "tokenizer")
    return writer_from_tensors(config, tensors, tokenizer, sees=sees, placement=placement)


def writer_from_tensors(
    config: Mapping[str, Any],
    tensors: Mapping[str, Stored],
    tokenizer: ChatTokenizer,
    *,
    sees: bool,
    placement: Placement | None = None,
) -> PromptWriter:
    """Build the writer from Qwen2-VL's `config.json` (flat or nested) and its tensors.

    Raises `CheckpointError` if the head is missing, or the vision tower where one is needed.
    """
    from transformers import Qwen2VLForConditionalGeneration

    placement = placement or Placement()
    tied = _check_parts({plain_name(name) for name in tensors}, config, sees=sees)
    ids = {name: tokenizer.backend.convert_tokens_to_ids(token) for name, token in _TOKENS.items()}
    if None in ids.values():
        raise CheckpointError("The Qwen2-VL tokenizer lacks the tokens of pictures. " + _REMEDY)
    vision = vision_config(config) if sees else {"depth": 1}
    known = library_config({**qwen_config(config), **ids, "vision_config": vision})
    text_config = known.get_text_config()
    check_vocabulary(tokenizer, text_config.vocab_size, "Qwen2-VL")
    network: Any = build_on_meta(
        lambda: Qwen2VLForConditionalGeneration(known), what="Qwen2-VL language model"
    )
    holder = network if "visual" in dict(network.named_children()) else network.model
    if not sees:
        holder.visual = nn.Identity()
    if tied:
        network.lm_head = nn.Identity()
    own = {plain_name(name): name for name in network.state_dict()}

    def rename(key: str) -> str | None:
        name = plain_name(key)
        unused = (not sees and name.startswith("visual.")) or (tied and name == "lm_head.weight")
        return None if unused else own.get(name, key)

    fill_network(network, tensors, rename, name="Qwen2-VL", placement=placement)
    if tied:
        table = network.get_input_embeddings().weight
        width, words = table.shape[1], table.shape[0]
        network.lm_head = nn.Linear(width, words, bias=False, device="meta")
        network.lm_head.weight = table
    restore_rotary(network, text_config, placement.device)
    if sees:
        _restore_vision_rotary(holder.visual, placement.device)
    check_filled(network, placement)
    return PromptWriter(network, tokenizer, sees=sees)


_REMEDY = "Use text_encoder/ and tokenizer/ of a published V5.1 checkpoint."


def _check_parts(names: set[str], config: Mapping[str, Any], *, sees: bool) -> bool:
    """Raise unless head and vision tower are there; returns whether the head is the embeddings."""
    nested = config.get("text_config")
    parts = (config, nested if isinstance(nested, Mapping) else {})
    ties = any(part.get("tie_word_embeddings") is True for part in parts)
    tied = "lm_head.weight" not in names and ties
    if not tied and "lm_head.weight" not in names:
        raise CheckpointError(
            "This text encoder cannot write prompts: its files have no language head "
            f"(lm_head.weight), like those of the package's small model. {_REMEDY}"
        )
    if sees and not any(name.startswith("visual.") for name in names):
        raise CheckpointError(
            "This text encoder cannot see the picture: its files have no vision tower (visual.*). "
            f"Let it write without the picture, or: {_REMEDY}"
        )
    return tied


def _restore_vision_rotary(tower: Any, device: torch.device | str) -> None:
    """Compute the vision tower's rotary frequencies, which are not stored."""
    rotary = tower.rotary_pos_emb
    count = len(rotary.inv_freq)
    values = 1.0 / 10000.0 ** (torch.arange(0, 2 * count, 2, dtype=torch.float) / (2 * count))
    for name, _ in list(rotary.named_buffers(recurse=False)):
        setattr(rotary, name, values.to(device))


def _forget_positions(network: nn.Module) -> None:
    """Forget the last picture, whose size would shift the positions of the next chat."""
    module: Any
    for module in network.modules():
        if hasattr(module, "rope_deltas"):
            module.rope_deltas = None


def _draws(seed: int) -> list[Any]:
    """Processors after which the best score is a draw of the seed.

    Scores plus exponential noise's negated logarithm have their maximum where a draw from their
    softmax falls. The noise is of a generator on the CPU, thus the same for every device.
    """
    from transformers import (
        LogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    generator = torch.Generator().manual_seed(seed)

    class Draw(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ARG002
            noise = torch.empty(scores.shape).exponential_(generator=generator)
            return scores.float() - noise.log().to(scores.device)

    return [
        TemperatureLogitsWarper(TEMPERATURE),
        TopKLogitsWarper(TOP_K),
        TopPLogitsWarper(TOP_P),
        Draw(),
    ]


def _reporting(start: Tensor, total: int, progress: Progress) -> Any:
    """A criterion that never stops the answer, but reports, which may raise."""
    from transformers import StoppingCriteria

    class Reporting(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002
            progress("write", input_ids.shape[1] - start.shape[1], total)
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return Reporting()
