"""How the networks of a run are kept in memory, trading speed for memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .cards import Card

#: Formats for the weights of attention and feed-forward layers. The q kinds are optimum-quanto's,
#: scaled per output channel, qint4 per group of inputs.
QUANTIZATIONS = ("none", "qfloat8", "qint8", "qint4")
#: How networks are offloaded. resident: denoiser and VAE stay on the device between runs. module:
#: each is on the device during its stage. block: the blocks of denoiser and text encoder are
#: streamed one by one, at most two at a time beside those that stay; the VAE as with module.
OFFLOADS = ("resident", "module", "block")
#: What a plan chooses among the ways that fit: the quickest whose result is exact, or of all.
PREFERENCES = ("exact", "speed")

#: Attention kernels: auto asks the quicker one of the next two first, by card; flash and cudnn are
#: PyTorch's, flash3 and sage packages of their own. Sage rounds queries and keys to 8 bits.
ATTENTIONS = ("auto", "flash", "cudnn", "flash3", "sage")


@dataclass(frozen=True)
class Memory:
    """Options that trade a run's speed for memory.

    Args:
        quantization: Of the denoiser's layers, one of `QUANTIZATIONS`. Slightly changes the result.
        text_quantization: The same for the text encoder's layers.
        text_device: Where the text encoder runs, if not on the run's device ("cpu", "cuda:1").
        offload: One of `OFFLOADS`. The result is bit-identical.
        sequential_guidance: Denoise the negative and the positive prompt one after the other
            instead of in a batch: half the activations; the result may differ by rounding.
        resident_blocks: With "block", how many of the denoiser's blocks stay on the device.
    """

    quantization: str = "none"
    text_quantization: str = "none"
    text_device: str | None = None
    offload: str = "module"
    sequential_guidance: bool = False
    resident_blocks: int = 0

    def __post_init__(self) -> None:
        for name in ("quantization", "text_quantization"):
            _check_choice(name, getattr(self, name), QUANTIZATIONS)
        _check_choice("offload", self.offload, OFFLOADS)
        if self.resident_blocks < 0:
            raise InputError(f"resident_blocks is {self.resident_blocks}; it must be at least 0.")
        if self.resident_blocks and self.offload != "block":
            raise InputError(
                f"resident_blocks is {self.resident_blocks}, but offload is {self.offload}: only "
                "block streams the others. Omit resident_blocks, or choose block."
            )


@dataclass(frozen=True)
class Kernels:
    """How the denoiser is computed; results differ by rounding.

    Args:
        compile: Compile its blocks in the first step, once for all sizes.
        attention: One of `ATTENTIONS`.
    """

    compile: bool = False
    attention: str = "auto"

    def __post_init__(self) -> None:
        _check_choice("attention", self.attention, ATTENTIONS)


def quantizations_on(card: Card) -> tuple[str, ...]:
    """The `QUANTIZATIONS` that a device supports."""
    return tuple(kind for kind in QUANTIZATIONS if kind != "qfloat8" or card.holds_float8)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
