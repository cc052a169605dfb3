"""Tiny models of random weights that see, with their processors, as transformers saves them."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PICTURES = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 16,
}


def letters():
    """A tokenizer of single characters."""
    special = ["<pad>", "<unk>", "<image>", "<|im_start|>", "<|im_end|>"]
    words = {text: i for i, text in enumerate([*special, *map(chr, range(32, 127)), "\n"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        extra_special_tokens={"image_token": "<image>"},
    )


def write_llava(folder: Path) -> Path:
    """A Llava that sees 16 patches of a picture."""
    tokenizer = letters()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, pad_token_id=0, eos_token_id=4,
            bos_token_id=None,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    torch.manual_seed(0)
    network = LlavaForConditionalGeneration(config)
    for parameter in network.parameters():
        parameter.data.normal_(0, 1.0)  # or the answer would not depend on the picture
    network.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(**PICTURES),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    ).save_pretrained(folder)
    return folder


def write_clip(folder: Path) -> Path:
    """A CLIP whose embeddings have 16 numbers."""
    tokenizer = letters()
    text = {name: VISION[name] for name in VISION if name not in ("image_size", "patch_size")}
    text |= {"vocab_size": len(tokenizer), "max_position_embeddings": 77, "eos_token_id": 4}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    torch.manual_seed(0)
    network = CLIPModel(config)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3)
    network.save_pretrained(folder)
    tokenizer.model_max_length = 77
    CLIPProcessor(CLIPImageProcessor(**PICTURES), tokenizer).save_pretrained(folder)
    return folder
