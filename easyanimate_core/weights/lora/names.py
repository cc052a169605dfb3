"""Mapping the names in LoRA files to modules of the denoiser.

Supported are the names of the original trainer and kohya (`lora_unet_` or `lora_unet__`, with
underscores instead of dots), and those of peft and diffusers (dotted, with or without a prefix),
including old diffusers versions, which named attention processors. The text half of an MMDiT block
may have the original's names or diffusers'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...errors import CheckpointError, counted
from ..files.key_maps_transformer import to_diffusers, to_original
from ..files.spellings import DENOISER_WORDS, without_words

#: Prefixes of dotted names: peft's and old diffusers', and those of weights.
LORA_WORDS = ("base_model.", "unet.", *DENOISER_WORDS)
KOHYA = "lora_unet_"
_KOHYA = (KOHYA, "lora_transformer_", "lycoris_")
_FLAT_WORDS = tuple(word.replace(".", "_") for word in LORA_WORDS)
_TEXT = ("lora_te", "text_encoder.", "text_encoders.")
#: to_q.processor.lora.down, processor.to_q_lora.down: the layer, and which of its matrices.
_PROCESSOR = re.compile(r"\.processor(?=\.)")
_OLD = re.compile(r"\.(\w+)_lora\.(down|up)\.weight$")
_SHOWN = 4


@dataclass(frozen=True)
class LoraMatch:
    """Which names of a LoRA file match a denoiser.

    `names` maps the file's names to (module, rest), such as ("transformer_blocks.0.attn1.to_q",
    "lora_up.weight"). `unmatched` names match no module; those in `text` are for a text encoder and
    are not used.
    """

    names: Mapping[str, tuple[str, str]]
    unmatched: tuple[str, ...]
    text: tuple[str, ...]

    @property
    def modules(self) -> set[str]:
        """The modules that are changed."""
        return {module for module, _ in self.names.values()}

    def report(self, num_changed: int | None = None) -> str:
        """A sentence on what matched; all matched layers are changed, or `num_changed` of them."""
        total = len(self.names) + len(self.unmatched)
        changed = len(self.modules) if num_changed is None else num_changed
        are = "is" if changed == 1 else "are"
        layers = f"{counted(changed, 'layer')} {are}"
        text = f"{len(self.names)} of {counted(total, 'key')} matched, {layers} changed."
        if self.text:
            are = "is" if len(self.text) == 1 else "are"
            text += f" {counted(len(self.text), 'key')} of a text encoder {are} not used."
        return text

    def check(self, file: str, *, partial: bool) -> None:
        """Raise `CheckpointError` unless the names of `file` fit.

        With `partial`, unmatched keys are accepted if others match.
        """
        if not self.names:
            raise CheckpointError(
                f"No key of {file} fits this model ({_some(self.unmatched or self.text)}): it is "
                "not an EasyAnimate LoRA, or is for another version. Choose another file."
            )
        if self.unmatched and not partial:
            raise CheckpointError(
                f"No layer of this model fits {counted(len(self.unmatched), 'key')} of {file} "
                f"({_some(self.unmatched)}): it was made for another size (7B, 12B) or version. "
                "Choose the matching file, or allow a partial match."
            )


def match_lora(names: Iterable[str], modules: Iterable[str]) -> LoraMatch:
    """Which of a LoRA file's `names` belong to which of the denoiser's `modules`."""
    known = set(modules)
    underscored = {to_diffusers(f"{m}.")[:-1].replace(".", "_"): m for m in known}
    underscored |= {module.replace(".", "_"): module for module in known}
    matched: dict[str, tuple[str, str]] = {}
    unmatched: list[str] = []
    text: list[str] = []
    for name in names:
        if name.startswith(_TEXT):
            text.append(name)
            continue
        found = _kohya(name, underscored) if name.startswith(_KOHYA) else _dotted(name, known)
        if found is None:
            unmatched.append(name)
        else:
            matched[name] = found
    return LoraMatch(matched, tuple(unmatched), tuple(text))


def for_comfyui(names: Iterable[str]) -> dict[str, str]:
    """A LoRA file's `names` by those that ComfyUI's own loaders know, where they differ.

    They ignore names of the original's trainer, which have two underscores after `lora_unet`.

    Raises:
        CheckpointError: The file has a name in both spellings.
    """
    found: dict[str, str] = {}
    for name in names:
        known = KOHYA + name.removeprefix(KOHYA).lstrip("_") if name.startswith(KOHYA) else name
        if known in found:
            raise CheckpointError(
                f"The file has both {found[known]} and {name}, which are the same layer: it is not "
                "clear which one counts. Remove one of them."
            )
        found[known] = name
    return found


def _kohya(name: str, underscored: Mapping[str, str]) -> tuple[str, str] | None:
    prefix = next(prefix for prefix in _KOHYA if name.startswith(prefix))
    flat, _, rest = name.removeprefix(prefix).lstrip("_").partition(".")
    while flat not in underscored:
        word = next((word for word in _FLAT_WORDS if flat.startswith(word)), None)
        if word is None:
            return None
        flat = flat.removeprefix(word)
    return underscored[flat], rest


def _dotted(name: str, known: set[str]) -> tuple[str, str] | None:
    """Split the name after its longest prefix that is a module."""
    plain = _OLD.sub(r".\1.lora.\2.weight", _PROCESSOR.sub("", without_words(name, LORA_WORDS)))
    plain = to_original(plain.replace(".default.", ".").replace(".to_out.lora", ".to_out.0.lora"))
    parts = plain.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if module in known:
            return module, ".".join(parts[length:])
    return None


def _some(names: tuple[str, ...]) -> str:
    more = " ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
