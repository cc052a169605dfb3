"""What a graphics card is, and which dtype it is quick and right in.

The facts are asked once and put into a `Card`; every decision is a function of that alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

#: Of NVIDIA's cards with compute capability 7.5 those without tensor cores: in float16 their
#: convolutions give NaN (pytorch/pytorch#58123, #77955).
_NO_TENSOR_CORES = re.compile(
    r"GTX 16\d\d|\b(T400|T500|T550|T600|T1000|T1200|T2000|MX450|MX550|CMP 30HX)\b"
)
#: AMD's architectures with bfloat16 in hardware: CDNA, and RDNA from the third on.
_AMD_BFLOAT16 = re.compile(r"gfx(908|90a|94\w|95\w|11\w\w|12\w\w)")
_GENERIC = "generic"  # of AMD's kernels: "gfx11-generic" runs on a whole family


@dataclass(frozen=True)
class Card:
    """A device that a run could use, and what PyTorch says of it.

    Args:
        device: Its name for `--device`.
        name: Its maker's name for it.
        architecture: sm_75 (NVIDIA), gfx1030 (AMD); "" where PyTorch tells none.
        num_bytes: Its memory, None where PyTorch tells none.
        shares_memory: Whether that is the machine's: of a processor with graphics inside.
        bfloat16: Whether it computes in bfloat16, where PyTorch has to be asked (Intel, Apple).
        float16: The same of float16.
        kernels: The architectures that this PyTorch was built for; empty where it does not tell.
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
        """PyTorch's word: cuda (NVIDIA and AMD), xpu, mps or cpu."""
        return self.device.partition(":")[0]

    @property
    def holds_float8(self) -> bool:
        """Whether weights can lie on it in 8 bits of floating point; MPS has no such dtype."""
        return self.kind != "mps"

    @property
    def capability(self) -> int | None:
        """NVIDIA's compute capability as one number, 75 for 7.5."""
        found = re.fullmatch(r"sm_(\d+)", self.architecture)
        return int(found[1]) if found else None

    @property
    def has_kernels(self) -> bool:
        """Whether this PyTorch can compute on it at all.

        Code for sm_80 runs on 8.0 and what follows within 8; code for compute_80 on all that
        follows.
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
    """A compute dtype, and why it is the one."""

    dtype: torch.dtype
    why: str


def usual_dtype(card: Card) -> Choice:
    """The compute dtype that a run has unless another is asked for."""
    half, full = torch.float16, torch.float32
    if card.kind == "cpu":
        return Choice(full, "a CPU gives the same result everywhere in it")
    if card.kind == "mps" and not card.bfloat16:
        return Choice(half, "macOS has bfloat16 from 14 on")
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
        return Choice(half, f"{card.architecture} only imitates bfloat16, in float32")
    if own is None or own >= 80:
        return Choice(torch.bfloat16, "the card computes in it")
    if own < 70:
        return Choice(full, f"{card.architecture} is quick in neither bfloat16 nor float16")
    if _NO_TENSOR_CORES.search(card.name):
        return Choice(full, f"float16 gives NaN on a {card.name}, and bfloat16 is only imitated")
    return Choice(half, f"{card.architecture} only imitates bfloat16, in float32")
