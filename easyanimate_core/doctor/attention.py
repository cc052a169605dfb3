"""Attention on this device: what is installed, and what a kernel gives.

Shapes: B batch, H heads, N tokens, D head dimension.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..models.transformer.kernel import AttentionFunction, holds_scores, scaled_dot_product
from .finding import Finding, fine, note, wrong
from .imports import failed_imports
from .parity import relative_error, tolerance
from .versions import installed

#: Packages that ComfyUI can use instead of PyTorch's attention, and how it is told to.
KERNELS = {
    "sageattention": ("--use-sage-attention", ("sageattention",)),
    "flash_attn": ("--use-flash-attention", ("flash-attn", "flash_attn")),
    "xformers": ("used where it is installed", ("xformers",)),
}
TRITON = ("triton", "triton-windows", "pytorch-triton-rocm", "pytorch-triton-xpu")
_C_COMPILERS = ("cl",) if sys.platform == "win32" else ("cc", "gcc", "clang")
_CPP_COMPILERS = ("cl",) if sys.platform == "win32" else ("c++", "g++", "clang++")
_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
_TOKENS, _HEADS, _HEAD_DIM = 1024, 4, 64
#: The largest relative error; 3e-7, 4e-4 and 3e-3 were measured on a CPU.
_LIMITS = {torch.float16: 3e-3, torch.bfloat16: 2e-2}
#: Of attention that rounds to 8 bits, such as SageAttention's.
_EIGHT_BITS = 0.1
_UPDATE = "Update PyTorch and the card's driver; until then, use --device cpu."
_OTHER = (
    "Start ComfyUI with --use-pytorch-cross-attention, or update the package of this attention."
)


def findings(
    device: torch.device,
    dtype: torch.dtype,
    *,
    computes: bool,
    host: AttentionFunction | None,
) -> Iterator[Finding]:
    """Kernels and compilers; with `computes`, also what the kernels give.

    `host` is the host's own attention, if there is one.
    """
    parts = "in parts, as PyTorch would store all scores" if holds_scores(device, dtype) else ""
    yield fine(f"a run's attention: {parts or 'at once, by a kernel that never stores all scores'}")
    if computes:
        yield from _computed(device, dtype, host)
    yield from _installed(imports=computes)
    yield from _compiling(device)


def _computed(
    device: torch.device, dtype: torch.dtype, host: AttentionFunction | None
) -> Iterator[Finding]:
    generator = torch.Generator().manual_seed(0)
    sizes = (3, 1, _HEADS, _TOKENS, _HEAD_DIM)
    q, k, v = torch.randn(sizes, generator=generator).to(dtype).float()
    weights = (q @ k.transpose(2, 3) * _HEAD_DIM**-0.5).softmax(-1)
    exact = (weights @ v).transpose(1, 2).flatten(2)
    given = [x.to(device, dtype) for x in (q, k, v)]
    limit = _LIMITS.get(dtype, tolerance(dtype, device))
    yield _kernel("a run's attention", scaled_dot_product, given, exact, limit)
    for name, backend in _BACKENDS.items():
        yield _pytorch(name, backend, given, exact, limit)
    if host is not None:
        yield _kernel("ComfyUI's attention", host, given, exact, max(limit, _EIGHT_BITS), _OTHER)


def _pytorch(
    name: str, backend: SDPBackend, given: list[Tensor], exact: Tensor, limit: float
) -> Finding:
    """One of PyTorch's kernels."""
    q_BHND, k_BHND, v_BHND = given
    with sdpa_kernel([backend]):
        try:
            F.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND)
        except RuntimeError:  # PyTorch's way to say that it has none
            dtype = str(q_BHND.dtype).removeprefix("torch.")
            return fine(f"PyTorch's {name} kernel: none for {dtype} on {q_BHND.device.type}")
        return _kernel(f"PyTorch's {name} kernel", scaled_dot_product, given, exact, limit)


def _kernel(
    what: str,
    kernel: AttentionFunction,
    given: list[Tensor],
    exact: Tensor,
    limit: float,
    remedy: str = _UPDATE,
) -> Finding:
    """What a kernel gives, and the time of its second call."""
    try:
        kernel(*given).cpu()  # chooses and compiles
        began = time.perf_counter()
        found = kernel(*given).cpu()
        seconds = time.perf_counter() - began
    except Exception as error:  # kernels of other packages raise anything
        return wrong(f"{what}: {type(error).__name__}: {error}", remedy)
    gap = relative_error(found, exact)
    said = f"{what}: error {gap:.1e} (at most {limit:g}), {seconds * 1000:.1f} ms"
    return fine(said) if gap <= limit else wrong(said, remedy)


def _installed(*, imports: bool) -> Iterator[Finding]:
    found = {module: installed(*names) for module, (_, names) in KERNELS.items()}
    there = [module for module, version in found.items() if version]
    failed = failed_imports(there) if imports and there else {}
    for module, (option, _) in KERNELS.items():
        if found[module] is None:
            yield fine(f"{module} is not installed (optional; ComfyUI: {option})")
        elif module in failed:
            yield note(
                f"{module} {found[module]} cannot be imported: {failed[module]}",
                "Install the build for this Python, PyTorch and CUDA, or do not use it.",
            )
        else:
            yield fine(f"{module} {found[module]} (ComfyUI: {option})")


def _compiling(device: torch.device) -> Iterator[Finding]:
    """What torch.compile needs on this device."""
    triton = installed(*TRITON)
    on_card = device.type in ("cuda", "xpu")
    variable, names = ("CC", _C_COMPILERS) if on_card else ("CXX", _CPP_COMPILERS)
    found = [path for name in names if (path := shutil.which(name))]
    compiler = os.environ.get(variable) or next(iter(found), None)
    said = f"torch.compile: triton {triton or 'is not installed'}, compiler {compiler or 'none'}"
    if on_card and triton is None:
        package = "triton-windows" if sys.platform == "win32" else "triton"
        yield note(
            f"{said}. TorchCompileModel and SageAttention fail on this card.",
            f"Install {package} in the version for PyTorch {torch.__version__}, or do without.",
        )
    elif on_card and compiler is None and sys.platform != "win32":  # there triton brings one
        yield note(
            f"{said}. triton fails: TorchCompileModel and SageAttention need it.",
            "Install a C compiler (Debian and Ubuntu: apt-get install gcc), or do without.",
        )
    else:
        yield fine(f"{said} (TorchCompileModel needs one)" if compiler is None else said)
