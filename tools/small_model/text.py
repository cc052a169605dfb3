"""The small model's text encoder: a tiny Qwen2-VL language model that learns the captions' grammar.

    python -m tools.small_model.text OUT

It is trained to say the next token of captions of the synthetic world, in both languages, and then
kept as it is. The denoisers read its state before the last layer, as with the published model.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from easyanimate_core.checkpoint.component import write_component
from easyanimate_core.settings import DEFAULT_NEGATIVE_PROMPT
from easyanimate_core.synthetic.caption import LANGUAGES, caption
from easyanimate_core.synthetic.scene import make_scene
from easyanimate_core.text.tokenize import load_qwen_tokenizer
from easyanimate_core.tiny_tokenizers import write_qwen_tokenizer

SEED = 7
CAPTIONS = 4000
VOCABULARY = 640
MAX_TOKENS = 48
#: The user's turn alone: a system line would cost the denoiser tokens that are always the same.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>{% endfor %}"
)
_LOG_EVERY = 200


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="a new folder for text_encoder/ and tokenizer/")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    corpus = _captions()
    arguments.out.mkdir(parents=True)
    special = write_qwen_tokenizer(
        arguments.out / "tokenizer",
        [*corpus, *[DEFAULT_NEGATIVE_PROMPT] * 50],
        vocabulary_size=VOCABULARY,
        max_tokens=MAX_TOKENS,
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer: Any = load_qwen_tokenizer(arguments.out / "tokenizer")
    chats = [f"<|im_start|>{text}<|im_end|>" for text in [*corpus, DEFAULT_NEGATIVE_PROMPT, ""]]
    tokens = tokenizer.tokenize(chats)
    longest = int(tokens.mask.sum(1).max())
    cut = sum(bool(text) for text in tokens.removed)
    print(f"{len(corpus)} captions, the longest has {longest} tokens, {cut} are cut")
    config = _config(special, vocabulary=len(tokenizer.backend))
    network = _train(config, tokens, steps=arguments.steps, batch=arguments.batch)
    weights = {
        name.replace("model.language_model.", "model."): tensor.to(torch.bfloat16)
        for name, tensor in network.state_dict().items()
        if not name.startswith(("model.visual.", "lm_head."))
    }
    write_component(arguments.out / "text_encoder", "model.safetensors", config, weights)
    return 0


def _captions() -> list[str]:
    scenes = (make_scene(SEED, index) for index in range(CAPTIONS))
    return [caption(scene, language) for scene in scenes for language in LANGUAGES]


def _config(special: dict[str, int], *, vocabulary: int) -> dict[str, Any]:
    return {
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
        "hidden_size": 128,
        "intermediate_size": 256,
        "max_position_embeddings": 32768,
        "max_window_layers": 3,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "vision_config": {
            "depth": 1,
            "embed_dim": 16,
            "hidden_size": 128,
            "in_chans": 3,
            "mlp_ratio": 2,
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
        "vocab_size": vocabulary,
    }


def _train(config: dict[str, Any], tokens: Any, *, steps: int, batch: int) -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    torch.manual_seed(SEED)
    network: Any = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict(dict(config))).float()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(SEED)
    labels = tokens.ids.masked_fill(tokens.mask == 0, -100)
    positions = torch.arange(tokens.ids.shape[1]).expand(3, batch, -1)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        rows = torch.randint(len(labels), (batch,), generator=generator)
        loss = network(
            input_ids=tokens.ids[rows],
            attention_mask=tokens.mask[rows],
            position_ids=positions,
            labels=labels[rows],
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % _LOG_EVERY == 0 or step == steps:
            seconds = time.perf_counter() - began
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)
    return network


if __name__ == "__main__":
    sys.exit(main())
