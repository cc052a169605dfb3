"""The fastest way that fits, and why the faster ones do not.

Weights are kept exact as long as streaming them makes the run fit: a step of a video takes
seconds, in which the next block arrives beside the computation. They are quantised when the
machine's memory does not hold them, or when the card does not hold even two blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..errors import InputError
from ..memory import Memory
from .estimate import GIGABYTE, Estimate, Job, estimate
from .facts import ModelFacts

#: Sides of the VAE's tiles in pixels that are tried, the fastest first; None is whole frames.
TILES: tuple[int | None, ...] = (None, 768, 512, 384, 256)


@dataclass(frozen=True)
class Limits:
    """What there is: memory of the card (None: the run is on a CPU) and of the machine, in bytes."""

    card: int | None
    host: int

    def __post_init__(self) -> None:
        for name, value in (("card", self.card), ("host", self.host)):
            if value is not None and value <= 0:
                raise InputError(
                    f"The {name} has {value / GIGABYTE:g} GB; give what it has, such as 12."
                )

    def hold(self, found: Estimate) -> bool:
        """Whether an estimate fits."""
        on_card = self.card is None or found.peak_card_bytes <= self.card
        return on_card and found.peak_host_bytes <= self.host


@dataclass(frozen=True)
class Plan:
    """How a run is to be held in memory, what that takes, and why.

    `memory` is for `Pipeline.load` and `tile` for `Settings`. With `fits` False it is the most
    sparing way, which does not fit either; `reasons` says where it breaks and what would fit.
    """

    facts: ModelFacts
    job: Job
    limits: Limits
    compute: torch.dtype
    memory: Memory
    tile: int | None
    estimate: Estimate
    fits: bool
    reasons: tuple[str, ...]


def choose(facts: ModelFacts, job: Job, limits: Limits, *, compute: torch.dtype) -> Plan:
    """The plan of a run.

    Args:
        facts: The model.
        job: What is to be made.
        limits: The memory that there is.
        compute: Compute dtype.

    Raises:
        InputError: The size is none that the model can make.
    """
    job.latents  # noqa: B018  (its own checks)
    found = _first_fitting(facts, job, limits, compute)
    if found is not None:
        memory, tile, numbers = found
        reasons = tuple(_reasons(facts, job, limits, compute, memory, tile))
        return Plan(facts, job, limits, compute, memory, tile, numbers, True, reasons)
    memory, tile = _most_sparing(limits)
    numbers = _estimate(facts, job, limits, compute, memory, tile)
    reasons = tuple(_refusal(facts, job, limits, compute, numbers))
    return Plan(facts, job, limits, compute, memory, tile, numbers, False, reasons)


def _first_fitting(
    facts: ModelFacts, job: Job, limits: Limits, compute: torch.dtype
) -> tuple[Memory, int | None, Estimate] | None:
    tile = _tile(facts, job, limits, compute)
    for memory in _ways(limits):
        numbers = _estimate(facts, job, limits, compute, memory, tile)
        if limits.hold(numbers):
            return memory, tile, numbers
    return None


def _tile(facts: ModelFacts, job: Job, limits: Limits, compute: torch.dtype) -> int | None:
    """The largest tiles with which the VAE's stages fit, judged by those alone."""
    sparing, _ = _most_sparing(limits)
    for tile in TILES:
        numbers = _estimate(facts, job, limits, compute, sparing, tile)
        stages = tuple(stage for stage in numbers.stages if stage.name in ("encode", "decode"))
        if limits.hold(Estimate(stages, numbers.on_card)):
            return tile
    return TILES[-1]


def _ways(limits: Limits) -> Iterator[Memory]:
    """Ways to hold the networks, the fastest and most exact first."""
    if limits.card is None:
        for text, denoiser in (("none", "none"), ("qint8", "none"), ("qint8", "qint8"),
                               ("qint4", "qint4")):  # fmt: skip
            for sequential in (False, True):
                yield Memory(denoiser, text, None, "module", sequential)
        return
    yield Memory(offload="resident")
    for quantization in ("none", "qfloat8", "qint4"):
        for offload in ("module", "block"):
            for sequential in (False, True):
                plain = Memory(quantization, offload=offload, sequential_guidance=sequential)
                yield plain
                yield replace(plain, text_quantization="qfloat8")
                yield replace(plain, text_device="cpu")
                yield replace(plain, text_quantization="qint8", text_device="cpu")


def _most_sparing(limits: Limits) -> tuple[Memory, int | None]:
    if limits.card is None:
        return Memory("qint4", "qint4", None, "module", True), TILES[-1]
    return Memory("qint4", "qint8", "cpu", "block", True), TILES[-1]


def _estimate(
    facts: ModelFacts,
    job: Job,
    limits: Limits,
    compute: torch.dtype,
    memory: Memory,
    tile: int | None,
) -> Estimate:
    on_card = limits.card is not None
    return estimate(facts, job, memory, compute=compute, on_card=on_card, tile=tile)


def _reasons(
    facts: ModelFacts,
    job: Job,
    limits: Limits,
    compute: torch.dtype,
    memory: Memory,
    tile: int | None,
) -> Iterator[str]:
    """One sentence per choice: what the faster one would have taken."""

    def without(**changes: object) -> str:
        faster = replace(memory, **changes)
        return _excess(limits, _estimate(facts, job, limits, compute, faster, tile))

    if memory.offload == "resident":
        yield "All networks fit at once, so they stay on the card between runs."
    if memory.quantization != "none":
        why = without(quantization="none")
        yield f"The denoiser's weights are {memory.quantization}: unquantised {why}."
    if memory.offload == "block":
        yield f"Weights come block by block: with whole networks {without(offload='module')}."
    if memory.sequential_guidance:
        why = without(sequential_guidance=False)
        yield f"The two prompts are denoised one after the other: together {why}."
    if memory.text_device is not None:
        yield f"The text encoder runs on the CPU: on the card {without(text_device=None)}."
    if memory.text_quantization != "none":
        why = without(text_quantization="none")
        yield f"The text encoder's weights are {memory.text_quantization}: unquantised {why}."
    if tile is not None:
        numbers = _estimate(facts, job, limits, compute, memory, None)
        yield f"The VAE works in tiles of {tile} pixels: whole frames {_excess(limits, numbers)}."
    if memory == Memory() and tile is None:
        yield "Each network fits whole while it works."


def _excess(limits: Limits, numbers: Estimate) -> str:
    """What does not fit, as the end of a sentence."""
    if limits.card is not None and numbers.peak_card_bytes > limits.card:
        worst = max(numbers.stages, key=numbers.card_bytes)
        taken, has = numbers.card_bytes(worst), limits.card
        return f"the stage {worst.name} would take {_gb(taken)} of the card's {_gb(has)}"
    worst = max(numbers.stages, key=lambda stage: stage.host)
    return f"the stage {worst.name} would take {_gb(worst.host)} of the machine's {_gb(limits.host)}"


def _refusal(
    facts: ModelFacts, job: Job, limits: Limits, compute: torch.dtype, numbers: Estimate
) -> Iterator[str]:
    yield f"It does not fit: even with every saving {_excess(limits, numbers)}."
    for frames in range(job.frames - 4, 0, -4):
        if _first_fitting(facts, replace(job, frames=frames), limits, compute):
            yield f"At this size {frames} frames fit."
            return
    half = replace(job, height=job.height // 32 * 16, width=job.width // 32 * 16)
    if min(half.height, half.width) >= 128 and _first_fitting(facts, half, limits, compute):
        yield f"{half.height}x{half.width} fits."
        return
    yield "No size of this model fits here; a smaller model, or a larger machine, is needed."


def _gb(count: int) -> str:
    return f"{count / GIGABYTE:.1f} GB"
