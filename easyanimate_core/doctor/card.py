"""The device of a run, its dtypes, and how such a machine was tested."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import torch

from ..errors import InputError
from ..files.graphics import graphics_makers
from ..memory.cards import Card, usual_dtype
from ..memory.devices import card_of, device_notes, pick_device, pick_dtype, text_dtype
from ..memory.options import QUANTIZATIONS, quantizations_on
from ..memory.tested import SYSTEMS, evidence_for
from ..models.precision import wide
from .finding import Finding, fine, note, wrong

_BUILDS = "https://pytorch.org/get-started/locally"
_SECONDS = 20


def findings(device_name: str, dtype_name: str) -> Iterator[Finding]:
    """The device and the dtype that a run uses, and why."""
    yield fine(f"PyTorch {torch.__version__}, {_build()}")
    try:
        device = pick_device(device_name)
        compute = pick_dtype(dtype_name, device)
    except InputError as error:
        yield wrong(str(error))
        return
    card = card_of(device)
    yield fine(f"device: {', '.join(filter(None, (card.device, card.name, card.architecture)))}")
    yield fine(f"memory: {_memory(card)}")
    if card.kind == "cuda":
        yield from (fine(f"driver: {text}") for text in _driver())
    usual = usual_dtype(card)
    if compute is usual.dtype:
        yield fine(f"dtype: {_word(compute)}: {usual.why}")
    else:
        yield fine(f"dtype: {_word(compute)}, as requested; the default is {_word(usual.dtype)}")
    beside = (wide(compute), text_dtype(compute, device))
    if beside != (compute, compute):
        yield fine(f"VAE in {_word(beside[0])}, text encoders in {_word(beside[1])}")
    kinds = quantizations_on(card)
    lacks = [kind for kind in QUANTIZATIONS if kind not in kinds]
    held = ", ".join(kinds[1:]) + "".join(f"; not {kind}" for kind in lacks)
    yield fine(f"weights in fewer bits: {held}")
    yield from _unused(device_name, device, compute)
    yield from (fine(f"how it was tested: {text}") for text in _tested(card))


def _unused(name: str, device: torch.device, compute: torch.dtype) -> Iterator[Finding]:
    """What of the machine stays unused, which is a fault if it is its only NVIDIA card."""
    notes = device_notes(name, device, compute)
    if name != "auto" or device.type != "cpu" or "NVIDIA" not in graphics_makers():
        yield from map(note, notes)
    elif torch.version.cuda is None:
        yield from map(wrong, notes)
    else:
        yield wrong(
            f"PyTorch was built for CUDA {torch.version.cuda} but cannot use this machine's NVIDIA "
            f"card: {_why_not()}.",
            "Run nvidia-smi: if it fails, install the card's driver; if it shows an older CUDA "
            f"version than {torch.version.cuda}, update the driver, or install the PyTorch build "
            f"for that version ({_BUILDS}).",
        )


def _build() -> str:
    """What this PyTorch was built for."""
    if torch.version.hip is not None:
        return f"built for ROCm {torch.version.hip}"
    if torch.version.cuda is not None:
        return f"built for CUDA {torch.version.cuda}"
    kinds = {"Apple GPUs": torch.backends.mps.is_built(), "XPU": torch.xpu._is_compiled()}
    names = [kind for kind, is_built in kinds.items() if is_built]
    return f"built for {' and '.join(names) or 'CPUs only'}"


def _why_not() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0].removesuffix(".")
    return "it finds no card, which CUDA_VISIBLE_DEVICES may hide"


def _driver() -> Iterator[str]:
    """The driver's version, by NVIDIA's own program."""
    program = shutil.which("nvidia-smi")
    if program is None or torch.version.hip is not None:
        return
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603  (found by its name; constant arguments)
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=True,
        )
        yield from done.stdout.splitlines()[:1]


def _tested(card: Card) -> Iterator[str]:
    system = SYSTEMS.get(platform.system())
    yield str(evidence_for(card))
    yield f"{platform.system()}: not tested" if system is None else str(system)


def _memory(card: Card) -> str:
    if card.shares_memory:
        told = f", {card.num_bytes / 1e9:.1f} GB of it for the GPU" if card.num_bytes else ""
        return f"shared with the CPU{told}"
    return "unknown" if card.num_bytes is None else f"{card.num_bytes / 1e9:.1f} GB, dedicated"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
