"""Free memory, and what of the models present fits into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import torch

from ..memory.devices import card_of
from ..memory.options import quantizations_on
from ..memory.plan import (
    Job,
    Limits,
    ModelFacts,
    Plan,
    choose,
    command_options,
    facts_of,
    published_facts,
)
from ..models.specs import Head, Version
from .checkpoints import Checkpoint
from .finding import Finding, fine, note

#: Height, width and frames of the plans: the smallest of the published tables.
SIZE = (384, 672, 49)
#: Share of the card's memory that other programs may take before it is told.
_TAKEN = 0.2

#: A host's plan of a checkpoint folder for `SIZE`.
PlanFolder = Callable[[Path], Plan]


def findings(
    checkpoints: Sequence[Checkpoint],
    device: torch.device,
    compute: torch.dtype,
    host: PlanFolder | None,
) -> Iterator[Finding]:
    """The memory that is free now, and a plan for each whole checkpoint."""
    yield from _free(device)
    whole = [checkpoint for checkpoint in checkpoints if checkpoint.info is not None]
    for checkpoint in whole:
        assert checkpoint.info is not None
        if host is None:
            plan = _plan(facts_of(checkpoint.info), device, compute)
        else:
            plan = host(checkpoint.folder)
        yield _planned(checkpoint.name, plan, options=host is None)
    if not whole:
        facts = published_facts(Version.V5_1, "7B", Head.INPAINT)
        yield _planned("EasyAnimateV5.1-7b-zh-InP", _plan(facts, device, compute), options=True)


def _free(device: torch.device) -> Iterator[Finding]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    yield fine(
        f"RAM: {memory.total / 1e9:.1f} GB, of which {memory.available / 1e9:.1f} GB are free; "
        f"swap or page file: {swap.total / 1e9:.1f} GB"
    )
    if device.type != "cuda":
        return
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        yield note(f"VRAM: how much is free is unknown ({str(error).splitlines()[0]})")
        return
    said = f"VRAM: {total / 1e9:.1f} GB, of which {free / 1e9:.1f} GB are free"
    if free < (1 - _TAKEN) * total:
        yield note(f"{said}: the rest is in use.", "Close other programs that use the card.")
    else:
        yield fine(said)


def _plan(facts: ModelFacts, device: torch.device, compute: torch.dtype) -> Plan:
    height, width, frames = SIZE
    job = Job(height, width, frames, encodes=facts.transformer.head is not Head.T2V)
    card = card_of(device)
    limits = Limits.of(card, psutil.virtual_memory().available)
    return choose(facts, job, limits, compute=compute, kinds=quantizations_on(card))


def _planned(name: str, plan: Plan, *, options: bool) -> Finding:
    what = f"{name}, {'x'.join(map(str, SIZE))}"
    if not plan.fits:
        return note(f"{what}: {' '.join(plan.reasons)}")
    chosen = " ".join(command_options(plan)) if options else ""
    reasons = " ".join(plan.reasons)
    return fine(f"{what} fits: {reasons}" + (f" Options: {chosen}" if chosen else ""))
