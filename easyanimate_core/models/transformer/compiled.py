"""Compiling a denoiser's blocks with `torch.compile`, once for all sizes.

Each block's `forward` is compiled, not the network: hooks around blocks, such as the ones that
stream weights, stay outside, and all blocks of a kind share one graph. A batch of one has a graph
of its own, and so has every set of layers and ranks that a LoRA gives a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.fx.experimental import _config

from ...errors import InputError

_shape_settings: Any = _config  # `patch` is added when it is imported
#: Graphs per process: by kind of block, dtype, format of the weights, and layers with a LoRA.
_MOST_GRAPHS = 64


@contextmanager
def compiled(blocks: nn.ModuleList, *, backend: str = "inductor") -> Iterator[None]:
    """Within the `with` block, `blocks` run compiled. The results differ by rounding."""
    most = max(torch._dynamo.config.recompile_limit, _MOST_GRAPHS)
    changed: list[Any] = []
    # Without duck shapes: sizes that happen to be equal, such as a batch of two and the rotary
    # table's two parts, would have to be equal in every run.
    with (
        torch._dynamo.config.patch(recompile_limit=most),
        _shape_settings.patch(use_duck_shape=False),
    ):
        try:
            for block in blocks:
                run: Any = block
                run.forward = torch.compile(run.forward, dynamic=True, backend=backend)
                changed.append(run)
            yield
        finally:
            for run in changed:
                del run.forward


def check_compiles(device: torch.device) -> None:
    """Raise `InputError` unless this machine has what compiling for `device` needs."""
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise InputError(
                "Compiling for the CPU needs a C++ compiler, such as g++ or clang, and none was "
                "found. Install one, or omit --compile."
            ) from error
    elif device.type in ("cuda", "xpu") and find_spec("triton") is None:
        raise InputError(
            "Compiling needs the package triton, which is not installed. Install it (on Windows: "
            "triton-windows), or omit --compile."
        )
