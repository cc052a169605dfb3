"""Compares this machine's results with the original's, from the recordings of the package."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from .. import small_model
from ..memory.devices import text_dtype
from ..models.precision import REMEDY
from ..progress import Progress
from . import runs
from .finding import Finding, fine, wrong
from .recordings import RECORDINGS, Recording, read_recording

#: The largest relative error, root mean square; on a CPU, 3e-6, 7e-4 and 4e-2 were measured.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 0.1}
#: In float32 on a card, which may round the factors of products to 11 bits (TF32).
CARD_TOLERANCE = 5e-3

Check = Callable[[runs.Compute], Iterator[runs.Compared]]


@dataclass(frozen=True)
class Part:
    """A part of the model, and the check of it. Text encoders have a dtype of their own."""

    name: str
    check: Check
    is_text: bool = False

    def dtype(self, compute: runs.Compute) -> torch.dtype:
        """The dtype in which it runs."""
        return compute.text if self.is_text else compute.dtype


def shipped(name: str) -> Recording:
    """A recording of the package, by its path among them."""
    return read_recording(RECORDINGS / name)


def parts() -> Iterator[Part]:
    """Every part that this copy of the package can check."""
    for version, name in (("V5.1", "v5.1_t2v"), ("V5", "v5_t2v")):
        yield Part(f"denoiser {version}", partial(_denoiser, f"transformer/{name}.safetensors"))
        yield Part(f"VAE {version}", partial(_vae, f"vae/{version.lower()}.safetensors"))
    if small_model.is_installed():
        yield Part("text encoder V5.1", _text_v51, is_text=True)
    yield Part("text encoders V5", _text_v5, is_text=True)
    flow, ddim = "pipeline/v5.1_t2v_flow.safetensors", "pipeline/v5_t2v_ddim.safetensors"
    yield Part("whole run V5.1 (Flow)", partial(_run, flow, decodes=True))
    yield Part("whole run V5 (DDIM)", partial(_run, ddim, decodes=False))


def findings(compute: runs.Compute, progress: Progress) -> Iterator[Finding]:
    """Every part in float32, and in the run's dtype if it is another."""
    exact = replace(compute, dtype=torch.float32, text=torch.float32)
    ways = [exact] if compute.dtype is torch.float32 else [exact, compute]
    todo = [(part, way) for way in ways for part in parts()]
    for done, (part, way) in enumerate(todo):
        progress("parity", done, len(todo))
        yield _found(part, way)
    progress("parity", len(todo), len(todo))


def compute_on(device: torch.device, dtype: torch.dtype) -> runs.Compute:
    """How a run computes on a device."""
    return runs.Compute(device, dtype, text_dtype(dtype, device))


def relative_error(found: Tensor, recorded: Tensor) -> float:
    """The root mean square of the differences, relative to that of what was recorded."""
    expected = recorded.double()
    if found.shape != recorded.shape:
        return math.inf
    error = float((found.cpu().double() - expected).norm() / expected.norm())
    return error if math.isfinite(error) else math.inf


def tolerance(dtype: torch.dtype, device: torch.device) -> float:
    """The largest relative error that counts as equal."""
    if dtype is torch.float32 and device.type != "cpu":
        return CARD_TOLERANCE
    return TOLERANCES[dtype]


def _denoiser(name: str, at: runs.Compute) -> Iterator[runs.Compared]:
    return runs.denoiser(shipped(name), at)


def _vae(name: str, at: runs.Compute) -> Iterator[runs.Compared]:
    return runs.vae(shipped(name), at)


def _text_v51(at: runs.Compute) -> Iterator[runs.Compared]:
    return runs.text_v51(shipped("text/small.safetensors"), at, small_model.FOLDER)


def _text_v5(at: runs.Compute) -> Iterator[runs.Compared]:
    return runs.text_v5(shipped("text/bert_t5.safetensors"), at)


def _run(name: str, at: runs.Compute, *, decodes: bool) -> Iterator[runs.Compared]:
    return runs.denoising(shipped(name), shipped, at, decodes=decodes)


@torch.inference_mode()
def _found(part: Part, way: runs.Compute) -> Finding:
    dtype = part.dtype(way)
    what = f"{part.name}, {str(dtype).removeprefix('torch.')} on {way.device}"
    began = time.perf_counter()
    try:
        errors = [relative_error(one.found, one.recorded) for one in part.check(way)]
    except Exception as error:  # whatever fails on this machine is the finding
        return wrong(f"{what}: {type(error).__name__}: {error}", _remedy(way))
    seconds = time.perf_counter() - began
    worst, limit = max(errors), tolerance(dtype, way.device)
    said = f"{what}: error {worst:.1e} (at most {limit:g}), {seconds:.2f} s"
    return fine(said) if worst <= limit else wrong(said, _remedy(way))


def _remedy(way: runs.Compute) -> str:
    if way.dtype is not torch.float32:
        return REMEDY
    if way.device.type != "cpu":
        return "Update the driver, and PyTorch to a build for this card; until then, --device cpu."
    return "Compare the versions of PyTorch and transformers with the tested ones, and report it."
