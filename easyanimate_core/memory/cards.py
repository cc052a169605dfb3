"""The properties of a device, and the dtype in which it is fast and correct.

The properties are queried once, into a `Card`; every decision depends on that alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

#: NVIDIA's cards with compute capability 7.5 but without tensor cores: their float16 convolutions
#: return NaN (pytorch/pytorch#58123, #77955).
_NO_TENSOR_CORES = re.compile(
    r"GTX 16\d\d|\b(T400|T500|T550|T600|T1000|T1200|T2000|MX450|MX550|CMP 30HX)\b"
)
#: AMD's architectures with bfloat16 in hardware: CDNA, and RDNA 3 or newer.
_AMD_BFLOAT16 = re.compile(r"gfx(908|90a|94\w|95\w|11\w\w|12\w\w)")
_GENERIC = "generic"  # of AMD's kernels: "gfx11-generic" runs on a whole family


@dataclass(frozen=True)
class Card:
    """A device that a run could use, as reported by PyTorch.

    Args:
        device: Its name for `--device`.
        name: Its product name.
        architecture: sm_75 (NVIDIA), gfx1030 (AMD); "" if PyTorch reports none.
        num_bytes: Its memory; None if PyTorch reports none.
        shares_memory: Whether it shares the machine's memory, as integrated graphics do.
        bfloat16: Whether it computes in bfloat16; queried for Intel and Apple only.
        float16: The same for float16.
        kernels: The architectures that this PyTorch was built for; empty if unknown.
    """

    device: str
    name: str
    architecture: str = ""
    num_bytes: int | None = None
    shares_memory: bool = False
    bfloat16: bool = True
    float16: bool = True
    kernels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """PyTorch's device type: cuda (NVIDIA and AMD), xpu, mps or cpu."""
        return self.device.partition(":")[0]

    @property
    def holds_float8(self) -> bool:
        """Whether it can store weights in float8; MPS has no such dtype."""
        return self.kind != "mps"

    @property
    def capability(self) -> int | None:
        """NVIDIA's compute capability as an integer, 75 for 7.5."""
        found = re.fullmatch(r"sm_(\d+)", self.architecture)
        return int(found[1]) if found else None

    @property
    def has_kernels(self) -> bool:
        """Whether this PyTorch can compute on it at all.

        Code for sm_80 runs on compute capability 8.0 and newer within 8; code for compute_80 on
        everything newer.
        """
        if not self.kernels or not self.architecture or any(_GENERIC in k for k in self.kernels):
            return True
        own = self.capability
        if own is None:
            return self.architecture in self.kernels
        for kind, number in re.findall(r"\b(sm|compute)_(\d+)", " ".join(self.kernels)):
            built = int(number)
            if built <= own and (kind == "compute" or built // 10 == own // 10):
                return True
        return False


@dataclass(frozen=True)
class Choice:
    """A compute dtype, and why it was chosen."""

    dtype: torch.dtype
    why: str


def usual_dtype(card: Card) -> Choice:
    """The default compute dtype on a device."""
    half, full = torch.float16, torch.float32
    if card.kind == "cpu":
        return Choice(full, "every CPU gives the same result in it")
    if card.kind == "mps" and not card.bfloat16:
        return Choice(half, "bfloat16 needs macOS 14 or newer")
    if card.kind != "cuda":
        if card.bfloat16:
            return Choice(torch.bfloat16, "the card computes in it")
        if card.float16:
            return Choice(half, "the card does not compute in bfloat16")
        return Choice(full, "the card computes in neither bfloat16 nor float16")
    own = card.capability
    if own is None and card.architecture:
        if _AMD_BFLOAT16.fullmatch(card.architecture):
            return Choice(torch.bfloat16, f"{card.architecture} computes in it")
        return Choice(half, f"{card.architecture} only emulates bfloat16, in float32")
    if own is None or own >= 80:
        return Choice(torch.bfloat16, "the card computes in it")
    if own < 70:
        return Choice(full, f"{card.architecture} is fast in neither bfloat16 nor float16")
    if _NO_TENSOR_CORES.search(card.name):
        return Choice(full, f"float16 gives NaN on a {card.name}, and bfloat16 is only emulated")
    return Choice(half, f"{card.architecture} only emulates bfloat16, in float32")
