"""Trains the small model's text encoder, a tiny Qwen2-VL language model, on captions.

    python -m tools.small_model.text OUT

It learns to predict the next token of the synthetic world's captions, in both languages, and to
encode the meaning of the whole caption in its states from the caption's end on: linear heads on
these states, discarded afterwards, classify the scene's parts. Otherwise a language model of this
size only remembers what the next token needs, and denoisers learn colours and shapes much later.
The denoisers use its states before the last layer, as with the published model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from easyanimate_core.settings import DEFAULT_NEGATIVE_PROMPT
from easyanimate_core.shapes.scenes.caption import LANGUAGES, caption
from easyanimate_core.shapes.scenes.scene import Scene, make_scene
from easyanimate_core.text.chat import BARE_TEMPLATE
from easyanimate_core.text.tokenize import load_qwen_tokenizer
from easyanimate_core.tiny.tokenizers import write_qwen_tokenizer
from easyanimate_core.weights.files.component import write_component

SEED = 7
CAPTIONS = 4000
VOCABULARY = 640
MAX_TOKENS = 24
#: Share of empty captions, which describe no part.
_EMPTY_SHARE = 0.05
_LOG_EVERY = 200


class Corpus(NamedTuple):
    """Captions, and the class of every part in each of them [N, parts], 0 if not mentioned."""

    captions: list[str]
    said: Tensor
    classes: list[int]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="a new folder for text_encoder/ and tokenizer/")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    corpus = make_corpus()
    arguments.out.mkdir(parents=True)
    special = write_qwen_tokenizer(
        arguments.out / "tokenizer",
        [*corpus.captions, *[DEFAULT_NEGATIVE_PROMPT] * 50],
        vocabulary_size=VOCABULARY,
        max_tokens=MAX_TOKENS,
        chat_template=BARE_TEMPLATE,
    )
    tokenizer: Any = load_qwen_tokenizer(arguments.out / "tokenizer")
    chats = [f"<|im_start|>{text}<|im_end|>" for text in corpus.captions]
    tokens = tokenizer.tokenize(chats)
    longest = int(tokens.mask.sum(1).max())
    print(f"{len(chats)} captions, the longest has {longest} tokens")
    config = _config(special, vocabulary=len(tokenizer.backend))
    network = _train(config, tokens, corpus, steps=arguments.steps, batch=arguments.batch)
    weights = {
        name.replace("model.language_model.", "model."): tensor.to(torch.bfloat16)
        for name, tensor in network.state_dict().items()
        if not name.startswith(("model.visual.", "lm_head."))
    }
    write_component(arguments.out / "text_encoder", "model.safetensors", config, weights)
    return 0


def make_corpus() -> Corpus:
    """Captions of scenes in both languages, the empty one, and the default negative prompt."""
    scenes = [make_scene(SEED, index) for index in range(CAPTIONS)]
    parts = [_parts(scene) for scene in scenes]
    names = [sorted({*column} - {""}) for column in zip(*parts, strict=True)]
    said = [
        [own.index(name) + 1 if name else 0 for name, own in zip(row, names, strict=True)]
        for row in parts
    ]
    captions = [caption(scene, language) for scene in scenes for language in LANGUAGES]
    rows = [row for row in said for _ in LANGUAGES]
    empty = round(_EMPTY_SHARE * len(captions))
    captions += ["", DEFAULT_NEGATIVE_PROMPT] * (empty // 2)
    rows += [[0] * len(names)] * (len(captions) - len(rows))
    return Corpus(captions, torch.tensor(rows), [len(own) + 1 for own in names])


def _parts(scene: Scene) -> tuple[str, ...]:
    """The parts of a scene as words, "" for those that do not apply."""
    main, ground = scene.main, scene.ground
    other = scene.bodies[1] if len(scene.bodies) > 1 else None
    filmed = scene.camera != "Static"
    return (
        *(main.colour, main.shape, main.size),
        *((other.colour, other.shape, other.size) if other and not filmed else ("", "", "")),
        scene.camera if filmed else scene.motion,
        *(ground.tint, ground.texture),
    )


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


def _train(config: dict[str, Any], tokens: Any, corpus: Corpus, *, steps: int, batch: int) -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    torch.manual_seed(SEED)
    network: Any = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict(dict(config))).float()
    readers = nn.Linear(config["hidden_size"], sum(corpus.classes))
    parameters = [*network.parameters(), *readers.parameters()]
    labels = tokens.ids.masked_fill(tokens.mask == 0, -100)
    positions = torch.arange(tokens.ids.shape[1]).expand(3, batch, -1)

    def losses(rows: Tensor, _: torch.Generator) -> dict[str, Tensor]:
        answer = network(
            input_ids=tokens.ids[rows],
            attention_mask=tokens.mask[rows],
            position_ids=positions,
            labels=labels[rows],
            output_hidden_states=True,
        )
        read = readers(nn.functional.rms_norm(answer.hidden_states[-2], (config["hidden_size"],)))
        mask = tokens.mask[rows]
        after = mask.cumsum(1) == mask.sum(1, keepdim=True)
        said = said_loss(read, after, corpus.said[rows], corpus.classes)
        return {"next token": answer.loss, "meaning": said}

    learn(parameters, losses, len(labels), steps=steps, batch=batch)
    return network


def learn(
    parameters: Sequence[nn.Parameter],
    losses_of: Callable[[Tensor, torch.Generator], dict[str, Tensor]],
    count: int,
    *,
    steps: int,
    batch: int,
) -> None:
    """Minimise the sum of the losses of `batch` random rows of `count`, printing them by name."""
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(SEED)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        losses = losses_of(torch.randint(count, (batch,), generator=generator), generator)
        torch.stack([*losses.values()]).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % _LOG_EVERY == 0 or step == steps:
            seconds = time.perf_counter() - began
            told = ", ".join(f"{name} {loss.item():.4f}" for name, loss in losses.items())
            print(f"step {step}/{steps}  {told}  {seconds:.0f} s", flush=True)


def said_loss(read: Tensor, where: Tensor, said: Tensor, classes: list[int]) -> Tensor:
    """Cross-entropy of every part at the chosen positions.

    Args:
        read: [B, T, classes of all parts].
        where: [B, T], the positions.
        said: [B, parts], the right classes.
        classes: Number of classes per part.
    """
    counts = where.sum(1)
    losses = [
        nn.functional.cross_entropy(part[where], said[:, i].repeat_interleave(counts))
        for i, part in enumerate(read.split(classes, dim=2))
    ]
    return torch.stack(losses).mean()


if __name__ == "__main__":
    sys.exit(main())
