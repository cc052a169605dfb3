"""Trains the small V5's text encoders, a tiny Bert and the encoder of a tiny mT5, on captions.

    python -m tools.small_model.text_v5 OUT

Both learn to predict tokens of the synthetic world's captions that are masked, in both languages,
and to encode the meaning of the whole caption in every state: linear heads, discarded afterwards,
classify the scene's parts. Denoisers use their last hidden states, as with the published model,
whose text encoders read padding too; so do these.

Also writes V5's VAE: the weights of V5.1's with V5's normalisation over the frames of a chunk.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from easyanimate_core.models.specs import VAEConfig
from easyanimate_core.settings import DEFAULT_NEGATIVE_PROMPT
from easyanimate_core.small_model import FOLDER
from easyanimate_core.text.tokenize import load_bert_tokenizer, load_t5_tokenizer
from easyanimate_core.tiny.tokenizers import write_bert_tokenizer, write_t5_tokenizer
from easyanimate_core.weights.files import read_json, read_tensor_files
from easyanimate_core.weights.files.component import write_component, write_vae

from .text import SEED, Corpus, learn, make_corpus, said_loss

#: The longest captions have 33 and 17 tokens: Bert reads Chinese character by character.
BERT_TOKENS, T5_TOKENS = 36, 24
T5_VOCABULARY = 640
_WIDTH, _LAYERS, _HEADS = 128, 3, 4
_MASKED_SHARE = 0.2


@dataclass(frozen=True)
class Part:
    """One text encoder: its folder, config, tokens [N, T], and the token that masks others."""

    folder: Path
    config: dict[str, Any]
    network: nn.Module
    ids: Tensor
    mask: Tensor
    masking: int


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="a new folder for the encoders and tokenizers")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    corpus = make_corpus()
    arguments.out.mkdir(parents=True)
    torch.manual_seed(SEED)
    for part in (_bert(arguments.out, corpus.captions), _t5(arguments.out, corpus.captions)):
        _train(part, corpus, steps=arguments.steps, batch=arguments.batch)
        weights = {
            name: tensor.to(torch.bfloat16)
            for name, tensor in part.network.state_dict().items()
            if name != "encoder.embed_tokens.weight"  # tied to `shared.weight`
        }
        write_component(part.folder, "model.safetensors", part.config, weights)
    _write_vae(arguments.out / "vae")
    return 0


def _write_vae(folder: Path) -> None:
    weights = read_tensor_files(FOLDER / "vae").read()
    config = VAEConfig.from_dict(read_json(FOLDER / "vae" / "config.json"))
    published = replace(config, spatial_group_norm=False, mini_batch_encoder=4)
    write_vae(folder, published, weights)


def _bert(out: Path, captions: Sequence[str]) -> Part:
    from transformers import BertConfig, BertModel

    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "max_position_embeddings": BERT_TOKENS,
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "vocab_size": write_bert_tokenizer(
            out / "tokenizer", _words([*captions, DEFAULT_NEGATIVE_PROMPT]), max_tokens=BERT_TOKENS
        ),
    }
    tokenizer: Any = load_bert_tokenizer(out / "tokenizer")
    tokens = tokenizer.tokenize(captions)
    sizes: Any = BertConfig.from_dict({**config, "hidden_dropout_prob": 0.0,
                                       "attention_probs_dropout_prob": 0.0})  # fmt: skip
    network = BertModel(sizes, add_pooling_layer=False)
    masking = tokenizer.backend.mask_token_id
    return Part(out / "text_encoder", config, network, tokens.ids, tokens.mask, masking)


def _t5(out: Path, captions: Sequence[str]) -> Part:
    from transformers import MT5Config, MT5EncoderModel

    corpus = [*captions, *[DEFAULT_NEGATIVE_PROMPT] * 50]
    vocabulary = write_t5_tokenizer(
        out / "tokenizer_2",
        corpus,
        vocabulary_size=T5_VOCABULARY,
        max_tokens=T5_TOKENS,
        model_type="bpe",
    )
    config = {
        "architectures": ["T5EncoderModel"],
        "model_type": "mt5",
        "d_ff": 2 * _WIDTH,
        "d_kv": _WIDTH // _HEADS,
        "d_model": _WIDTH,
        "feed_forward_proj": "gated-gelu",
        "num_heads": _HEADS,
        "num_layers": _LAYERS,
        "vocab_size": vocabulary,
    }
    tokens = load_t5_tokenizer(out / "tokenizer_2").tokenize(captions)
    network = MT5EncoderModel(MT5Config.from_dict({**config, "dropout_rate": 0.0}))
    unknown = 2  # mT5 has no token of its own for what is masked
    return Part(out / "text_encoder_2", config, network, tokens.ids, tokens.mask, unknown)


def _words(captions: Sequence[str]) -> list[str]:
    """Captions as words and single characters, which is how Bert divides them."""
    return [" ".join(re.findall(r"[a-z]+|\S", text.lower())) for text in captions]


def _train(part: Part, corpus: Corpus, *, steps: int, batch: int) -> None:
    network = part.network
    longest = int(part.mask.sum(1).max())
    print(f"{part.folder.name}: {len(part.ids)} captions, the longest has {longest} tokens")
    readers = nn.Linear(_WIDTH, sum(corpus.classes))
    guesses = nn.Linear(_WIDTH, part.config["vocab_size"])
    parameters = [*network.parameters(), *readers.parameters(), *guesses.parameters()]

    def losses(rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        ids, mask = part.ids[rows], part.mask[rows]
        # Half of the captions are whole, and only read for their meaning.
        drawn = torch.rand(ids.shape, generator=generator) < _MASKED_SHARE
        drawn[::2] = False
        drawn &= mask.bool()
        states = network(input_ids=ids.masked_fill(drawn, part.masking)).last_hidden_state
        read = readers(nn.functional.layer_norm(states[::2], (_WIDTH,)))
        everywhere = torch.ones_like(drawn[::2])
        said = said_loss(read, everywhere, corpus.said[rows[::2]], corpus.classes)
        guessed = nn.functional.cross_entropy(guesses(states[drawn]), ids[drawn])
        return {"masked": guessed, "meaning": said}

    learn(parameters, losses, len(part.ids), steps=steps, batch=batch)


if __name__ == "__main__":
    sys.exit(main())
