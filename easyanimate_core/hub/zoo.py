"""The published models: names, repositories, sizes and memory requirements.

Names, sizes, licences and memory tables are as published by the original's authors.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import InputError
from ..models.specs import Head, Version

#: The hubs' names on the command line and in the node, and the owner of the models there.
HUGGINGFACE, MODELSCOPE = "huggingface", "modelscope"
OWNERS: Mapping[str, str] = MappingProxyType({HUGGINGFACE: "alibaba-pai", MODELSCOPE: "PAI"})

#: Height x width x frames of the published memory tables.
_SIZES = (
    "384x672x25", "384x672x49", "576x1008x25", "576x1008x49", "768x1344x25", "768x1344x49",
)  # fmt: skip

#: A row per GPU memory in GB, a letter per size. m: runs with model offload; q: with model offload
#: and qfloat8; s: only with sequential offload (slow); -: does not run.
_MEMORY = {
    (Version.V5_1, "7B"): {16: "qqss--", 24: "mmmqq-", 40: "mmmmmm"},
    (Version.V5_1, "12B"): {16: "qsss--", 24: "qqqqq-", 40: "mmmmmm"},
    (Version.V5, "7B"): {16: "qq----", 24: "mmqq--", 40: "mmmm--", 80: "mmmmmm"},
    (Version.V5, "12B"): {16: "qq----", 24: "qqqq--", 40: "mmmm--", 80: "mmmmmm"},
}

_TOKENIZERS = {Version.V5: ("tokenizer", "tokenizer_2"), Version.V5_1: ("tokenizer",)}
_ENCODERS = {Version.V5: ("text_encoder", "text_encoder_2"), Version.V5_1: ("text_encoder",)}


@dataclass(frozen=True)
class ZooModel:
    """A published checkpoint folder.

    `gigabytes` is the published size of the repository, None if not published. `seen` is False for
    a repository whose name was inferred from its siblings and not confirmed.
    """

    name: str
    version: Version
    size: str
    head: Head
    gigabytes: int | None
    licence: str
    sources: tuple[str, ...] = (HUGGINGFACE, MODELSCOPE)
    seen: bool = True

    @property
    def layout(self) -> str:
        """The tensor naming scheme: "original" or "diffusers"."""
        return "diffusers" if self.name.endswith("-diffusers") else "original"

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders of a complete checkpoint."""
        text = (*_ENCODERS[self.version], *_TOKENIZERS[self.version])
        return ("scheduler", *text, "transformer", "vae")

    @property
    def memory(self) -> str:
        """GPU memory and the largest size that it runs without sequential offload."""
        runs: dict[str, int] = {}
        for card, marks in _MEMORY[self.version, self.size].items():
            runs.setdefault(_SIZES[max(marks.rfind("m"), marks.rfind("q"))], card)
        return ", ".join(f"{card} GB: {largest}" for largest, card in runs.items())

    def repo(self, source: str) -> str:
        """The repository's id on a hub; `InputError` if that hub does not have the model."""
        if source not in self.sources:
            raise InputError(
                f"{self.name} is not on {source}; it is on {' and '.join(self.sources)}."
            )
        return f"{OWNERS[source]}/{self.name}"


@dataclass(frozen=True)
class ZooLora:
    """A published LoRA, one file of `LORA_REPO`."""

    name: str
    gigabytes: float

    @property
    def file(self) -> str:
        """Its file name in the repository."""
        return f"{self.name}.safetensors"


LORA_REPO = "EasyAnimateV5-Reward-LoRAs"

_APACHE, _OTHER, _UNSAID = "Apache-2.0", "other", "see its page"
_SUFFIX = {
    Head.T2V: "",
    Head.INPAINT: "-InP",
    Head.CONTROL: "-Control",
    Head.CAMERA: "-Control-Camera",
}
_EVERY_HEAD = tuple(Head)


def _family(
    version: Version, size: str, heads: tuple[Head, ...], gigabytes: int, licence: str
) -> tuple[ZooModel, ...]:
    stem = f"EasyAnimate{version.value}-{size.lower()}-zh"
    return tuple(
        ZooModel(f"{stem}{_SUFFIX[head]}", version, size, head, gigabytes, licence)
        for head in heads
    )


def _diffusers(size: str, head: Head, *, seen: bool = True) -> ZooModel:
    name = f"EasyAnimateV5.1-{size.lower()}-zh{_SUFFIX[head]}-diffusers"
    return ZooModel(name, Version.V5_1, size, head, None, _UNSAID, (HUGGINGFACE,), seen)


_ALL = (
    *_family(Version.V5_1, "7B", _EVERY_HEAD, 30, _APACHE),
    *_family(Version.V5_1, "12B", _EVERY_HEAD, 39, _APACHE),
    *_family(Version.V5, "7B", (Head.T2V, Head.INPAINT), 22, _OTHER),
    *_family(Version.V5, "12B", (Head.T2V, Head.INPAINT, Head.CONTROL), 34, _OTHER),
    _diffusers("7B", Head.T2V),
    _diffusers("7B", Head.INPAINT),
    _diffusers("7B", Head.CONTROL, seen=False),
    _diffusers("7B", Head.CAMERA),
    _diffusers("12B", Head.T2V),
    _diffusers("12B", Head.INPAINT),
    _diffusers("12B", Head.CONTROL),
    _diffusers("12B", Head.CAMERA),
)

#: Every model by name.
MODELS: Mapping[str, ZooModel] = MappingProxyType({model.name: model for model in _ALL})

#: Every LoRA by name. All are for V5's InP models; in V5.1 they are already merged.
LORAS: Mapping[str, ZooLora] = MappingProxyType(
    {
        name: ZooLora(name, gigabytes)
        for name, gigabytes in (
            ("EasyAnimateV5-12b-zh-InP-HPS2.1", 1.83),
            ("EasyAnimateV5-12b-zh-InP-MPS", 1.83),
            ("EasyAnimateV5-7b-zh-InP-HPS2.1", 1.12),
            ("EasyAnimateV5-7b-zh-InP-MPS", 1.12),
        )
    }
)


def find_model(name: str) -> ZooModel:
    """The model with this name; `InputError` suggests the nearest names."""
    if name not in MODELS:
        raise _unknown("model", name, MODELS)
    return MODELS[name]


def find_lora(name: str) -> ZooLora:
    """The LoRA with this name, with or without its extension."""
    plain = name.removesuffix(".safetensors")
    if plain not in LORAS:
        raise _unknown("LoRA", name, LORAS)
    return LORAS[plain]


def _unknown(kind: str, name: str, known: Mapping[str, object]) -> InputError:
    lower = {entry.lower(): entry for entry in known}
    near = [lower[n] for n in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.4)]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"No {kind} is called {name!r}.{meant} --list shows every name.")
