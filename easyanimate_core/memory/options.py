"""How the networks of a run are kept in memory: against speed, without changing what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .cards import Card

#: What the weights of attention and feed-forward layers are stored in. The q kinds are those of
#: optimum-quanto, scaled per output channel, qint4 per group of inputs.
QUANTIZATIONS = ("none", "qfloat8", "qint8", "qint4")
#: Where a network is while it works. resident: denoiser and VAE stay on the device between runs.
#: module: each is there for its stage. block: the blocks of denoiser and text encoder are brought
#: one after the other, at most two at a time; the VAE as with module.
OFFLOADS = ("resident", "module", "block")


@dataclass(frozen=True)
class Memory:
    """How much memory a run takes, against how fast it is.

    Args:
        quantization: Of the denoiser's layers, one of `QUANTIZATIONS`. Changes the result a little.
        text_quantization: Of the text encoder's layers, likewise.
        text_device: Where the text encoder runs, if not on the run's device ("cpu", "cuda:1").
        offload: One of `OFFLOADS`. The result is the same to the bit.
        sequential_guidance: Denoise the negative and the positive prompt one after the other, in
            place of as a batch of two: half the activations; the result may differ by rounding.
    """

    quantization: str = "none"
    text_quantization: str = "none"
    text_device: str | None = None
    offload: str = "module"
    sequential_guidance: bool = False

    def __post_init__(self) -> None:
        for name in ("quantization", "text_quantization"):
            _check_choice(name, getattr(self, name), QUANTIZATIONS)
        _check_choice("offload", self.offload, OFFLOADS)


def quantizations_on(card: Card) -> tuple[str, ...]:
    """Those of `QUANTIZATIONS` whose weights can lie on a device."""
    return tuple(kind for kind in QUANTIZATIONS if kind != "qfloat8" or card.holds_float8)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
