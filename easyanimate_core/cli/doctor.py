"""`doctor`: prints what a run uses on this machine and why, and how that was tested."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from .options import add_device, add_dtype


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "doctor",
        help="print what a run uses on this machine",
        description="Print the device and the dtype that a run uses and why, memory, unused "
        "devices, and how this kind of machine was tested. Nothing is loaded.",
    )
    parser.set_defaults(run=run)
    add_device(parser)
    add_dtype(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; raises `InputError` with a remedy if the device cannot be used."""
    from ..memory.devices import device_notes, pick_device, pick_dtype

    for line in _machine():
        print(line)
    device = pick_device(arguments.device)
    compute = pick_dtype(arguments.dtype, device)
    for name, text in _facts(device, compute, asked=arguments.dtype != "auto"):
        print(f"  {name:<12}{text}")
    for note in device_notes(arguments.device, device, compute):
        print(f"note: {note}")
    return 0


def _machine() -> Iterator[str]:
    import platform

    import psutil
    import torch

    from ..version import __version__

    memory = psutil.virtual_memory()
    yield (
        f"easyanimate_core {__version__}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}, {platform.system()} {platform.release()}"
    )
    yield (f"RAM: {memory.total / 1e9:.1f} GB, of which {memory.available / 1e9:.1f} GB are free")


def _facts(device: Any, compute: Any, *, asked: bool) -> Iterator[tuple[str, str]]:
    import platform

    from ..memory.cards import usual_dtype
    from ..memory.devices import card_of, text_dtype
    from ..memory.options import QUANTIZATIONS, quantizations_on
    from ..memory.tested import SYSTEMS, evidence_for
    from ..models.precision import wide
    from ..models.transformer.kernel import holds_scores

    card = card_of(device)
    usual = usual_dtype(card)
    yield "device", ", ".join(filter(None, (card.device, card.name, card.architecture)))
    yield "memory", _memory(card)
    if asked:
        yield "dtype", f"{_word(compute)}, as requested; the default is {_word(usual.dtype)}"
    else:
        yield "dtype", f"{_word(compute)}: {usual.why}"
    beside = (wide(compute), text_dtype(compute, device))
    if beside != (compute, compute):
        yield "", f"VAE in {_word(beside[0])}, text encoders in {_word(beside[1])}"
    kinds = quantizations_on(card)
    lacks = [kind for kind in QUANTIZATIONS if kind not in kinds]
    yield "weights in", ", ".join(kinds[1:]) + "".join(f"; not {kind}" for kind in lacks)
    parts = "in parts, as PyTorch would store all scores" if holds_scores(device, compute) else ""
    yield "attention", parts or "at once, by a kernel that never stores all scores"
    system = SYSTEMS.get(platform.system())
    yield "tested", str(evidence_for(card))
    yield "", f"{platform.system()}: not tested" if system is None else str(system)


def _memory(card: Any) -> str:
    if card.shares_memory:
        told = f", {card.num_bytes / 1e9:.1f} GB of it for the GPU" if card.num_bytes else ""
        return f"shared with the CPU{told}"
    return "unknown" if card.num_bytes is None else f"{card.num_bytes / 1e9:.1f} GB, dedicated"


def _word(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
