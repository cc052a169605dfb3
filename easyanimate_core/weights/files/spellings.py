"""Names that programs write for the same tensor, brought to one.

Every reader goes through here, so that a spelling that is known for weights is known for LoRAs and
in ComfyUI too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...errors import CheckpointError

#: What programs put before a denoiser's names, in any combination.
DENOISER_WORDS = ("model.", "diffusion_model.", "module.", "_orig_mod.", "transformer.")
#: What ComfyUI puts before a VAE's names in a file with all parts, and the wrappers of trainers.
VAE_WORDS = ("first_stage_model.", "vae.", "module.", "_orig_mod.")
#: Layers around a network's own, which PyTorch names so wherever they stand.
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^(?:module\.)+"
)
#: Other programs' endings of the scales of weights in 8 bits, and ours, which are ComfyUI's.
_SCALES = {".scale_weight": ".weight_scale", ".scale_input": ".input_scale"}


def plain_name(name: str) -> str:
    """A tensor's name without wrappers, and with our spelling of scales."""
    name = _WRAPPERS.sub("", name)
    for theirs, ours in _SCALES.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def without_words(name: str, words: Iterable[str]) -> str:
    """The name without any of `words` before it, in any order and number."""
    return _leading(words).sub("", name)


def prefix_before(names: Iterable[str], marker: str, words: Iterable[str]) -> str | None:
    """What stands before the tensor `marker`, made of `words` only; None where it is not there.

    Raises:
        CheckpointError: Two of them are there, so that it is not clear which is meant.
    """
    leading = _leading(words)
    found = [
        name.removesuffix(marker)
        for name in names
        if name.endswith(marker) and leading.sub("", name) == marker
    ]
    if len(found) > 1:
        listed = " and ".join(repr(prefix) for prefix in found)
        raise CheckpointError(
            f"The file holds the same network more than once, under {listed} (such as a model and "
            "its average). Save one of them alone."
        )
    return found[0] if found else None


def _leading(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile("^(?:" + "|".join(map(re.escape, words)) + ")*")
