"""What a LoRA's header says about it: its base, how it was trained, and the words that it knows.

Read are this project's keys and those that trainers share: kohya's `ss_*` and `modelspec.*`. A
header may hold anything, so what is shown of it is escaped and cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import CheckpointError, printable
from ...files import json_value
from ...models.specs import Head, Version

VERSION, HEAD = "easyanimate.version", "easyanimate.head"
WORDS, DATASET, PACK = "easyanimate.words", "easyanimate.dataset", "easyanimate.pack"
REWARDS = "easyanimate.rewards"
DISTILLED = "easyanimate.distilled"
TRIGGER, TAGS = "modelspec.trigger_phrase", "ss_tag_frequency"
RANK, ALPHA = "ss_network_dim", "ss_network_alpha"
STEPS, RATE, SEED = "ss_steps", "ss_learning_rate", "ss_seed"
SPEC, ARCHITECTURE, IMPLEMENTATION, TITLE, RESOLUTION = (
    f"modelspec.{name}"
    for name in ("sai_model_spec", "architecture", "implementation", "title", "resolution")
)
BASE, MODULE, MODEL, CLIPS = (
    f"ss_{name}"
    for name in ("base_model_version", "network_module", "sd_model_name", "num_train_images")
)

#: What is listed, in this order: a label and the keys of which the first that is there is shown.
_LISTED = (
    ("base model", (MODEL, "ss_base_model_version", ARCHITECTURE)),
    ("rank", (RANK,)),
    ("alpha", (ALPHA,)),
    ("steps", (STEPS,)),
    ("learning rate", (RATE,)),
    ("seed", (SEED,)),
    ("clips", (CLIPS,)),
    ("rewards", (REWARDS,)),
    ("distilled", (DISTILLED,)),
    ("resolution", (RESOLUTION, "ss_resolution")),
    ("dataset", (DATASET,)),
    ("trained with", (PACK, "ss_sd_scripts_commit_hash", IMPLEMENTATION)),
)
_TRIGGERS = (TRIGGER, "trained_words", "trigger_words", "modelspec.usage_hint")
_LONGEST = 200
_MOST_WORDS = 20
#: Longer lists of words are not read: they are shown in part only.
_LONGEST_JSON = 4_000_000


@dataclass(frozen=True)
class LoraCard:
    """The header of a LoRA, as far as it is known; every text can be shown as it is.

    `facts` are labels and values, `words` the most common words of its captions.
    """

    version: Version | None
    head: Head | None
    trigger: str
    words: tuple[str, ...]
    facts: Mapping[str, str]

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> LoraCard:
        """The card of a file with this metadata; nothing in it is an error."""
        listed = {label: _first(metadata, keys) for label, keys in _LISTED}
        return cls(
            _member(Version, metadata.get(VERSION)),
            _member(Head, metadata.get(HEAD)),
            _first(metadata, _TRIGGERS),
            _words(metadata),
            {label: text for label, text in listed.items() if text},
        )

    def notes_for(self, file: str, version: Version, head: Head) -> tuple[str, ...]:
        """What a user of this denoiser should know.

        Raises:
            CheckpointError: The LoRA was trained for the other version.
        """
        if self.version not in (None, version):
            raise CheckpointError(
                f"{file} was trained for EasyAnimate {self.version.value}, and the model is "
                f"{version.value}. Choose a LoRA for {version.value}, or load a "
                f"{self.version.value} model."
            )
        notes = []
        if self.head not in (None, head):
            notes.append(
                f"It was trained on the {self.head.value} head and the model has the {head.value} "
                "head, so its effect may be weaker or different."
            )
        if "distilled" in self.facts:
            notes.append("It is for few steps: use a guidance of 1, more would be too much.")
        return tuple(notes)

    def lines(self) -> list[str]:
        """What a node shows under its report."""
        lines = []
        if self.trigger:
            lines.append(f"Trigger: {self.trigger}")
        if self.words:
            lines.append(f"Common words of its captions: {', '.join(self.words)}")
        if self.facts:
            facts = ", ".join(f"{label} {text}" for label, text in self.facts.items())
            lines.append(f"Its header: {facts}")
        return lines


def _member(kind: Any, text: str | None) -> Any:
    return kind(text) if text in [member.value for member in kind] else None


def _first(metadata: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return next((shown for key in keys if (shown := shown_of(metadata.get(key, "")))), "")


def shown_of(text: str) -> str:
    """A header's text as one line that is not long and that a terminal or page only shows."""
    text = printable(" ".join(text[: 2 * _LONGEST].split()))
    if text == "None":  # as kohya's trainers write what is not set
        return ""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    own = _json(metadata.get(WORDS, ""))
    if isinstance(own, list):
        found = [word for word in own[:_MOST_WORDS] if isinstance(word, str)]
        return tuple(filter(None, map(shown_of, found)))
    counts: dict[str, int] = {}
    folders = _json(metadata.get(TAGS, ""))
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int:
                counts[tag] = counts.get(tag, 0) + count
    common = sorted(counts, key=lambda tag: -counts[tag])[:_MOST_WORDS]
    return tuple(filter(None, map(shown_of, common)))


def _json(text: str) -> Any:
    if not text or len(text) > _LONGEST_JSON:
        return None
    try:
        return json_value(text, object, "The header", error=CheckpointError)
    except CheckpointError:
        return None
