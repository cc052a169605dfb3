"""Small tokenizers of the kinds that EasyAnimate's text encoders use, built from scratch.

They accept any English or Chinese text; their vocabularies are learned from the few lines below.
The same call always writes the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError
from ..files import json_value
from ..text.chat import QWEN_TEMPLATE

_CORPUS = (
    "A dog is shaking its head. The video is of high quality, and the view is very clear.",
    "High quality, masterpiece, best quality, highres, ultra-detailed, fantastic.",
    "Twisted body, limb deformities, text captions, comic, static, ugly, error, messy code.",
    "A woman walks along the beach at sunset while the waves roll in slowly.",
    "The camera moves forward through a quiet forest in the morning light.",
    "A red car drives down the road, and snow falls on the mountains behind it.",
    "Fireworks light up the night sky over the city. A cat sits on a wooden table.",
    "The quick brown fox jumps over the lazy dog, 0 1 2 3 4 5 6 7 8 9 times; is it so? Yes!",
    "一只可爱的小狗在雪地里奔跑,高质量,画面清晰。",
    "夕阳下,一个女孩在海边慢慢地走,海浪轻轻拍打着沙滩。",
    "镜头向前移动,穿过清晨安静的森林,阳光从树叶间洒下来。",
    "扭曲的身体,肢体残疾,文字字幕,漫画,静止,丑陋,错误,乱码。",
)
_QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON with the same line ends on every system."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_bytes(text.encode())


def write_qwen_tokenizer(
    folder: Path,
    corpus: Sequence[str] = _CORPUS,
    *,
    vocabulary_size: int = 400,
    max_tokens: int = 32768,
    chat_template: str = QWEN_TEMPLATE,
) -> dict[str, int]:
    """Write a byte-level BPE learned from `corpus`; returns the ids of the special tokens.

    Prompts are padded or truncated to `max_tokens`, at most 256.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json_value(tokenizer.to_str(), dict, "tokenizer.json", error=CheckpointError)["model"]
    vocabulary = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    special = {token: len(vocabulary) + index for index, token in enumerate(_QWEN_SPECIAL)}

    folder.mkdir()
    write_json(folder / "vocab.json", vocabulary)
    merges = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_bytes(("\n".join(merges) + "\n").encode())
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    config = {
        "added_tokens_decoder": {
            str(index): {"content": token, **flags, "special": True}
            for token, index in special.items()
        },
        "chat_template": chat_template,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "model_max_length": max_tokens,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    write_json(folder / "tokenizer_config.json", config)
    return special


def write_bert_tokenizer(
    folder: Path, corpus: Sequence[str] = _CORPUS, *, max_tokens: int = 77
) -> int:
    """Write a WordPiece vocabulary of the corpus's characters and words; returns its size.

    Prompts are padded or truncated to `max_tokens`, at most 77.
    """
    words = {
        word for line in corpus for word in line.lower().replace("-", " ").split() if word.isalpha()
    }
    characters = {character for line in corpus for character in line.lower()} - {" "}
    characters |= {chr(code) for code in range(ord("!"), 127) if not chr(code).isupper()}
    pieces = [f"##{character}" for character in sorted(characters) if character.isascii()]
    vocabulary = list(dict.fromkeys([*_BERT_SPECIAL, *sorted(characters), *pieces, *sorted(words)]))

    folder.mkdir()
    (folder / "vocab.txt").write_bytes(("\n".join(vocabulary) + "\n").encode())
    config = {
        "do_lower_case": True,
        "model_max_length": max_tokens,
        "tokenizer_class": "BertTokenizer",
    }
    write_json(folder / "tokenizer_config.json", config)
    return len(vocabulary)


def write_t5_tokenizer(
    folder: Path,
    corpus: Sequence[str] = _CORPUS,
    *,
    vocabulary_size: int = 600,
    max_tokens: int = 512,
    model_type: Literal["unigram", "bpe"] = "unigram",
) -> int:
    """Write a sentencepiece model with byte fallback; returns its size.

    Prompts are padded or truncated to `max_tokens`, at most 256. A unigram model of a few hundred
    pieces keeps no whole words; BPE does.
    """
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type=model_type,
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",  # the NFKC table alone is 240 KB
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    folder.mkdir()
    (folder / "spiece.model").write_bytes(model.getvalue())
    config = {
        "eos_token": "</s>",
        "extra_ids": 0,
        "model_max_length": max_tokens,
        "pad_token": "<pad>",
        "tokenizer_class": "T5Tokenizer",
        "unk_token": "<unk>",
    }
    write_json(folder / "tokenizer_config.json", config)
    return len(SentencePieceProcessor(model_proto=model.getvalue()))
