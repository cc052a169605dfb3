"""The header of a trained LoRA: what it was trained on and how, under names that others read.

No date and no path is in it: the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..models.specs import TransformerConfig
from ..version import __version__
from ..weights.lora import card
from .config import TrainConfig
from .data.records import Shape
from .words import common_words, telling_words

#: Between the tags of a caption.
_BREAK = re.compile(r"[,;.!?\n，；。！？、]+")
#: A longer piece of a caption is a sentence, of which the words are counted.
_LONGEST_TAG = 40
_MOST_TAGS = 500
_MOST_WORDS = 20
_LONGEST_TRIGGER = 200


@dataclass(frozen=True)
class Learned:
    """What a LoRA was trained on: all captions, its clips' largest shape, and their digest."""

    captions: Sequence[str]
    shape: Shape
    clips: int
    digest: str


def lora_header(
    config: TrainConfig, sizes: TransformerConfig, learned: Learned, step: int
) -> dict[str, str]:
    """The metadata of the LoRA after `step` steps."""
    lora, model = config.model.lora, config.model.checkpoint
    assert lora is not None and model is not None
    version, head = sizes.version.value, sizes.head.value
    base = f"easyanimate-{version}-{head}".lower()
    trigger = trigger_of(learned.captions)
    header = {
        "format": "pt",
        card.VERSION: version,
        card.HEAD: head,
        card.PACK: f"ComfyUI-EasyAnimate {__version__}",
        card.DATASET: learned.digest,
        card.WORDS: json.dumps(frequent_words(learned.captions), ensure_ascii=False),
        card.SPEC: "1.0.1",
        card.ARCHITECTURE: f"{base}/lora",
        card.IMPLEMENTATION: "https://github.com/aigc-apps/EasyAnimate",
        card.TITLE: f"EasyAnimate {version} {head} LoRA" + (f": {trigger}" if trigger else ""),
        card.RESOLUTION: f"{learned.shape.width}x{learned.shape.height}",
        card.BASE: base,
        card.MODEL: model.name,
        card.MODULE: "networks.lora",
        card.RANK: str(lora.rank),
        card.ALPHA: str(lora.alpha),
        card.STEPS: str(step),
        card.RATE: str(config.optimizer.learning_rate),
        card.SEED: str(config.seed),
        card.CLIPS: str(learned.clips),
        card.TAGS: json.dumps({"captions": tags_of(learned.captions)}, ensure_ascii=False),
    }
    if config.reward is not None:
        rewards = {name: reward.weight for name, reward in config.reward.rewards.items()}
        header[card.REWARDS] = json.dumps(rewards)
    if config.distill is not None:
        jumps = ", ".join(map(str, sorted(set(config.distill.jumps))))
        header[card.DISTILLED] = (
            f"guidance {config.distill.guidance:g} into jumps of 1/N of the way for N {jumps}; "
            "sample in few steps with guidance 1"
        )
    return header | ({card.TRIGGER: trigger} if trigger else {})


def trigger_of(captions: Sequence[str]) -> str:
    """The words that every caption has.

    If all captions are the same, that is the caption itself.
    """
    different = list(dict.fromkeys(captions))
    if len(different) == 1:
        return different[0].strip()[:_LONGEST_TRIGGER]
    return ", ".join(common_words(different))[:_LONGEST_TRIGGER]


def frequent_words(captions: Sequence[str]) -> list[str]:
    """The words that most captions have, those of the most captions first."""
    counts = Counter(word for text in captions for word in {*map(str.lower, telling_words(text))})
    return sorted(counts, key=lambda word: (-counts[word], word))[:_MOST_WORDS]


def tags_of(captions: Sequence[str]) -> dict[str, int]:
    """How often each tag occurs: what is between commas, and the words of whole sentences."""
    counts: Counter[str] = Counter()
    for caption in captions:
        for piece in filter(None, map(str.strip, _BREAK.split(caption))):
            is_tag = len(piece) <= _LONGEST_TAG
            counts.update([piece] if is_tag else map(str.lower, telling_words(piece)))
    kept = sorted(counts, key=lambda tag: (-counts[tag], tag))[:_MOST_TAGS]
    return {tag: counts[tag] for tag in kept}
