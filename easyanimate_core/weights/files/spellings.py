"""Different programs' names for the same tensor, mapped to one.

Every reader uses this module, so that a spelling known for weights is also known for LoRAs and in
ComfyUI.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...errors import CheckpointError

#: Prefixes that programs add to a denoiser's names, in any combination.
DENOISER_WORDS = ("model.", "diffusion_model.", "module.", "_orig_mod.", "transformer.")
#: Prefixes of a VAE's names: ComfyUI's in a full checkpoint file, and trainers' wrappers.
VAE_WORDS = ("first_stage_model.", "vae.", "module.", "_orig_mod.")
#: PyTorch's wrapper modules, which can occur anywhere in a name.
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^(?:module\.)+"
)
#: Other programs' suffixes for the scales of 8-bit weights, and ours, which are ComfyUI's.
_SCALES = {".scale_weight": ".weight_scale", ".scale_input": ".input_scale"}


def plain_name(name: str) -> str:
    """A tensor's name without wrappers, with our spelling of scales."""
    name = _WRAPPERS.sub("", name)
    for theirs, ours in _SCALES.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def without_words(name: str, words: Iterable[str]) -> str:
    """The name without leading `words`, in any order and number."""
    return _leading(words).sub("", name)


def prefix_before(names: Iterable[str], marker: str, words: Iterable[str]) -> str | None:
    """The prefix of the tensor `marker`, made up of `words`; None if there is no such tensor.

    Raises:
        CheckpointError: There are two, so it is ambiguous which is meant.
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
            f"The file contains the same network more than once, under {listed} (such as a model "
            "and its EMA). Save only one of them."
        )
    return found[0] if found else None


def _leading(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile("^(?:" + "|".join(map(re.escape, words)) + ")*")
