"""Choosing the fastest options that fit, and explaining why the faster ones do not.

Weights stay unquantised as long as streaming them makes the run fit: a step of a video takes
seconds, during which the next block arrives. As many blocks as fit stay on the card. Weights are
quantised if they exceed the machine's memory, if not even two blocks fit on the card, or, on
request, if a step is quicker so.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...errors import InputError, counted
from ...models.vae import sides_for
from ..card_speeds import Speeds
from ..cards import Card
from ..options import QUANTIZATIONS, Memory
from .estimate import GIGABYTE, Estimate, Job, Stage, estimate, gigabytes
from .facts import ModelFacts
from .ways import ERRORS, Way, seconds_per_step

#: Share of the card that blocks which stay may fill; the rest is for the screen and other programs.
_FILLED = 0.9


@dataclass(frozen=True)
class Limits:
    """Memory in bytes of the card (None: the run is on a CPU) and of the machine.

    `shared`: the card's memory is part of the machine's, as on a Mac, and counts only once.
    """

    card: int | None
    host: int
    shared: bool = False

    def __post_init__(self) -> None:
        for name, value in (("card", self.card), ("host", self.host)):
            if value is not None and value <= 0:
                raise InputError(
                    f"The {name} has {value / GIGABYTE:g} GB; give a positive number, such as 12."
                )

    @classmethod
    def of(cls, card: Card, host: int) -> Limits:
        """The limits of a device, with `host` bytes of main memory.

        For AMD's integrated graphics, PyTorch does not report whether part of the memory is
        reserved for them, which the machine then does not count.
        """
        if card.kind == "cpu":
            return cls(None, host)
        num_bytes = host if card.num_bytes is None else card.num_bytes
        return cls(num_bytes, host, card.shares_memory and not card.architecture.startswith("gfx"))

    def taken(self, found: Estimate, stage: Stage) -> int:
        """How much of the machine's memory a stage takes."""
        return stage.host + (found.card_bytes(stage) if self.shared else 0)

    def allow(self, found: Estimate) -> bool:
        """Whether an estimate fits."""
        on_card = self.card is None or found.peak_card_bytes <= self.card
        return on_card and all(self.taken(found, stage) <= self.host for stage in found.stages)


@dataclass(frozen=True)
class Plan:
    """The memory options of a run, how much memory they take, and why.

    `memory` is for `Pipeline.load` and `tile` for `Settings`. `ways` compares it to others, if the
    card's speeds are known. If `fits` is False, this is the plan
    with the least memory, which does not fit either; `reasons` explains why, and what would.
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
    ways: tuple[Way, ...] = ()
    speeds: Speeds | None = None


def choose(
    facts: ModelFacts,
    job: Job,
    limits: Limits,
    *,
    compute: torch.dtype,
    kinds: Sequence[str] = QUANTIZATIONS,
    text_kinds: Sequence[str] | None = None,
    speeds: Speeds | None = None,
    prefer: str = "exact",
) -> Plan:
    """Plan a run.

    Args:
        facts: The model.
        job: What to generate.
        limits: The available memory.
        compute: Compute dtype.
        kinds: The quantisations to choose from.
        text_kinds: The same for the text encoder, if different.
        speeds: Of the card, if known.
        prefer: One of `options.PREFERENCES`.

    Raises:
        InputError: The model cannot generate this size, or speed is preferred but unknown.
    """
    job.latents  # noqa: B018  (raises if invalid)
    if prefer == "speed" and speeds is None:
        raise InputError(
            "Speed is preferred, but how fast the card is is unknown: there is none here that can "
            "be measured. Name a card (plan --gpu), or do not prefer speed."
        )
    speeds = None if limits.card is None else speeds
    question = _Question(
        facts, job, limits, compute, tuple(kinds), tuple(text_kinds or kinds), speeds
    )
    found = question.first_fitting()
    ways = question.compared(*found) if found else ()
    quickest = min((way for way in ways if way.fits), key=lambda way: way.seconds, default=None)
    if found and quickest and prefer == "speed":
        found = quickest.memory, found[1]
    memory, tile = found or (question.ways()[-1], question.tiles()[-1])
    numbers = question.estimate(memory, tile)
    reasons = question.reasons(memory, tile) if found else question.refusal(numbers)
    return Plan(
        facts,
        job,
        limits,
        compute,
        memory,
        tile,
        numbers,
        found is not None,
        tuple(reasons),
        ways,
        speeds,
    )


@dataclass(frozen=True)
class _Question:
    facts: ModelFacts
    job: Job
    limits: Limits
    compute: torch.dtype
    kinds: tuple[str, ...]
    text_kinds: tuple[str, ...]
    speeds: Speeds | None = None

    def estimate(self, memory: Memory, tile: int | None) -> Estimate:
        on_card = self.limits.card is not None
        return estimate(
            self.facts, self.job, memory, compute=self.compute, on_card=on_card, tile=tile
        )

    def first_fitting(self) -> tuple[Memory, int | None] | None:
        tile = self.largest_tile()
        ways = (memory for memory in self.ways() if self.limits.allow(self.estimate(memory, tile)))
        found = next(ways, None)
        return None if found is None else (self.filled(found, tile), tile)

    def filled(self, memory: Memory, tile: int | None) -> Memory:
        """The same options with as many blocks on the card as fit."""
        if memory.offload != "block" or self.limits.card is None:
            return memory
        limits = replace(self.limits, card=int(_FILLED * self.limits.card))
        most = self.facts.transformer.num_layers

        def fits(count: int) -> bool:
            more = replace(memory, resident_blocks=count)
            return limits.allow(self.estimate(more, tile))

        count = bisect(range(1, most + 1), False, key=lambda count: not fits(count))
        return replace(memory, resident_blocks=count)

    def compared(self, memory: Memory, tile: int | None) -> tuple[Way, ...]:
        """What the run would take with the weights kept in each way."""
        speeds = self.speeds
        if speeds is None:
            return ()

        def way(name: str, memory: Memory) -> Way:
            numbers = self.estimate(memory, tile)
            stage = next(stage for stage in numbers.stages if stage.name == "denoise")
            seconds = seconds_per_step(
                self.facts, self.job, memory, self.compute, speeds=speeds, host=self.limits.host
            )
            return Way(name, memory, seconds, numbers.card_bytes(stage), self.limits.allow(numbers))

        whole = memory.offload if memory.offload != "block" else "module"
        exact = replace(memory, quantization="none", offload=whole, resident_blocks=0)
        streamed = self.filled(replace(exact, offload="block"), tile)
        layers, staying = self.facts.transformer.num_layers, streamed.resident_blocks
        found = [way("all on the card", exact)]
        if staying < layers:
            found.append(way(f"{staying} of {layers} blocks stay", streamed))
        return (
            *found,
            *(way(f"all on the card, {kind}", replace(exact, quantization=kind))
              for kind in self._denoisers("qfloat8", "qint8")[1:2] if kind != "qint4"),
        )  # fmt: skip

    def ways(self) -> list[Memory]:
        """All memory options: fastest and most exact first, those with the least memory last."""
        if self.limits.card is None:
            return [
                Memory(denoiser, text, None, "module", sequential)
                for denoiser in self._denoisers("qint8", "qfloat8")
                for text in self._texts("none", "qint8", "qint4")
                for sequential in (False, True)
            ]
        found = [Memory(offload="resident")]
        devices = (None,) if self.limits.shared else (None, "cpu")
        for denoiser in self._denoisers("qfloat8", "qint8"):
            for offload in ("module", "block"):
                for sequential in (False, True):
                    plain = Memory(denoiser, offload=offload, sequential_guidance=sequential)
                    found += [replace(plain, text_quantization=text, text_device=device)
                              for device in devices
                              for text in self._texts("none", "qint8")]  # fmt: skip
        return found

    def _denoisers(self, *eight_bits: str) -> list[str]:
        """The denoiser's quantisations to try, with the first available 8-bit kind."""
        known = [kind for kind in eight_bits if kind in self.kinds][:1]
        return ["none", *known, *(kind for kind in ("qint4",) if kind in self.kinds)]

    def _texts(self, *kinds: str) -> list[str]:
        return [kind for kind in kinds if kind in self.text_kinds]

    def tiles(self) -> tuple[int | None, ...]:
        """Sides of the VAE's tiles to try, in pixels, the fastest first; None is whole frames."""
        return (None, *sides_for(self.job.height, self.job.width))

    def largest_tile(self) -> int | None:
        """The largest tiles with which the VAE's stages fit."""
        sparing = self.ways()[-1]
        for tile in self.tiles():
            numbers = self.estimate(sparing, tile)
            stages = tuple(stage for stage in numbers.stages if stage.name in ("encode", "decode"))
            if self.limits.allow(Estimate(stages, numbers.on_card)):
                return tile
        return self.tiles()[-1]

    def reasons(self, memory: Memory, tile: int | None) -> Iterator[str]:
        """One sentence per choice: how much memory the faster one would have taken."""
        bare = replace(memory, resident_blocks=0)

        def without(**changes: Any) -> str:
            return self.excess(self.estimate(replace(bare, **changes), tile))

        if memory.offload == "resident":
            yield "All networks fit at once, so they stay on the card between runs."
        if memory.quantization != "none":
            sparing = "module" if self.limits.card is None else "block"
            exact = replace(bare, quantization="none", offload=sparing, sequential_guidance=True)
            numbers = self.estimate(exact, tile)
            why = f"unquantised {self.excess(numbers)}"
            if self.limits.allow(numbers):
                why = f"so a step is quicker, with an error of {ERRORS[memory.quantization]:g} %"
            yield f"The denoiser's weights are {memory.quantization}: {why}."
        if memory.offload == "block":
            why = without(offload="module")
            yield f"Weights are streamed block by block: with whole networks {why}."
            if memory.resident_blocks:
                layers = self.facts.transformer.num_layers
                yield f"{memory.resident_blocks} of {layers} blocks stay on the card."
        if memory.sequential_guidance:
            why = without(sequential_guidance=False)
            yield f"The two prompts are denoised one after the other: together {why}."
        if memory.text_device is not None:
            yield f"The text encoder runs on the CPU: on the card {without(text_device=None)}."
        if memory.text_quantization != "none":
            why = without(text_quantization="none")
            yield f"The text encoder's weights are {memory.text_quantization}: unquantised {why}."
        if tile is not None:
            why = self.excess(self.estimate(memory, None))
            yield f"The VAE works in tiles of {tile} pixels: with whole frames {why}."
        if memory == Memory() and tile is None:
            yield "Each network fits as a whole while it runs."

    def excess(self, numbers: Estimate) -> str:
        """What does not fit, as the end of a sentence."""
        limits = self.limits
        if limits.card is not None and numbers.peak_card_bytes > limits.card:
            worst = max(numbers.stages, key=numbers.card_bytes)
            taken, has = numbers.card_bytes(worst), limits.card
            return (
                f"the stage {worst.name} would take {gigabytes(taken)} of the card's "
                f"{gigabytes(has)}"
            )
        worst = max(numbers.stages, key=lambda stage: limits.taken(numbers, stage))
        return (
            f"the stage {worst.name} would take {gigabytes(limits.taken(numbers, worst))} of the "
            f"machine's {gigabytes(limits.host)}"
        )

    def refusal(self, numbers: Estimate) -> Iterator[str]:
        """Why even the plan with the least memory does not fit, and what would."""
        job = self.job
        yield f"It does not fit: even with every saving {self.excess(numbers)}."
        for frames in range(job.frames - 4, 0, -4):
            if replace(self, job=replace(job, frames=frames)).first_fitting():
                yield f"At this size {counted(frames, 'frame')} would fit."
                return
        half = replace(job, height=job.height // 32 * 16, width=job.width // 32 * 16)
        if min(half.height, half.width) >= 128 and replace(self, job=half).first_fitting():
            yield f"{half.height}x{half.width} fits."
            return
        yield "No size of this model fits here; a smaller model, or a larger machine, is needed."
