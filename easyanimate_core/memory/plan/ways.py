"""Expected seconds per step of each way to keep the denoiser, and the error of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..card_speeds import Speeds
from ..locked import lockable_within, locked_bytes
from ..options import Memory
from .estimate import PROCESS_BYTES, Job
from .facts import ModelFacts
from .work import step_work

#: Relative RMS error of the denoiser's output, in per cent (docs/memory.md).
ERRORS = {"none": 0.0, "qfloat8": 2.8, "qint8": 0.8, "qint4": 9.7}
#: Bytes that a layer moves per quantised value to unpack it: read, write, and read again.
_UNPACKING = 5


@dataclass(frozen=True)
class Way:
    """A way to keep the denoiser.

    Args:
        name: What stays where.
        memory: Its options.
        seconds: Expected seconds per step.
        card: What its stage takes on the card.
        fits: Whether the whole run fits.
    """

    name: str
    memory: Memory
    seconds: float
    card: int
    fits: bool

    @property
    def error(self) -> str:
        """The error of the result."""
        error = ERRORS[self.memory.quantization]
        return f"{error:g} %" if error else "none"


def seconds_per_step(
    facts: ModelFacts, job: Job, memory: Memory, compute: torch.dtype, *, speeds: Speeds, host: int
) -> float:
    """What the slowest takes: computing, sending what is streamed, or packing it.

    `host`: the machine's memory in bytes, of which packed blocks may be locked. All three run at
    the same time; with prompts one after the other, weights are sent twice.
    """
    rows = job.batch * (2 if job.guidance else 1)
    work = step_work(facts.transformer, job.latents, rows, compute)
    weights, item = facts.denoiser, compute.itemsize
    moved: float = work.moved
    passes = 2 if job.guidance and memory.sequential_guidance else 1
    if memory.quantization != "none" or weights.packed:
        moved += _UNPACKING * weights.quantizable * passes
    computing = work.flop / speeds.flops + moved / speeds.memory
    if memory.offload != "block":
        return computing
    num_blocks = facts.transformer.num_layers
    streamed = max(0, num_blocks - memory.resident_blocks)
    block = weights.num_bytes(item, memory.quantization) * weights.in_blocks / weights.values
    block /= num_blocks
    room = lockable_within(host - PROCESS_BYTES, host) // max(locked_bytes(int(block)), 1)
    packed_anew = max(0, streamed - room)
    sending = passes * streamed * block / speeds.link
    packing = passes * packed_anew * block / speeds.packing
    return max(computing, sending, packing)
