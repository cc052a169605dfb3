"""What was tested on which system and kind of card, and how.

`doctor` prints the rows for its machine; `docs/platforms.md` has all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .cards import Card, usual_dtype

#: run: the tests ran there. emulated: they ran on Linux, with the differences emulated.
#: read: choices were tested with the properties of such a device; nothing ran on one.
MEANS = ("run", "emulated", "read")


@dataclass(frozen=True)
class Tested:
    """A platform, one of `MEANS`, and what that covers."""

    platform: str
    means: str
    what: str

    def __str__(self) -> str:
        return f"{self.platform}: {self.means}; {self.what}"


LINUX = Tested("Linux", "run", "the whole suite, ComfyUI 0.8 and 0.33 and a browser included")
WINDOWS = Tested(
    "Windows",
    "emulated",
    "its file locks, code pages, memory commit and worker processes, on Linux",
)
MACOS = Tested("macOS", "read", "nothing ran on a Mac")
CPU = Tested("CPU", "run", "every mode in float32 and bfloat16, on x86-64")
NVIDIA = Tested(
    "NVIDIA, compute capability 8.0 or higher (RTX 30 and newer, A100, H100)", "read",
    "tests for such a card are in tests/gpu, and no result of a run is kept",
)  # fmt: skip
FLOAT16 = Tested(
    "NVIDIA 7.0 to 7.5 (V100, T4, RTX 20)", "emulated",
    "float16 and what leaves its range, on a CPU; the choice, from such cards' facts",
)  # fmt: skip
FLOAT32 = Tested(
    "NVIDIA GTX 16, GTX 10 and older", "read", "the choice of float32, from such cards' facts"
)
AMD = Tested("AMD (ROCm)", "read", "the choice of the dtype, from such cards' facts")
INTEL = Tested("Intel (XPU)", "read", "the choice of device and dtype, from such cards' facts")
APPLE = Tested(
    "Apple (MPS)", "emulated", "a stand-in refuses what PyTorch's MPS backend has not, on a CPU"
)

SYSTEMS = {"Linux": LINUX, "Windows": WINDOWS, "Darwin": MACOS}
DEVICES = (CPU, NVIDIA, FLOAT16, FLOAT32, AMD, INTEL, APPLE)


def evidence_for(card: Card) -> Tested:
    """The row for a device."""
    other = {"cpu": CPU, "xpu": INTEL, "mps": APPLE}.get(card.kind)
    if other is not None:
        return other
    if card.capability is None:
        return AMD
    by_dtype = {torch.bfloat16: NVIDIA, torch.float16: FLOAT16, torch.float32: FLOAT32}
    return by_dtype[usual_dtype(card).dtype]
