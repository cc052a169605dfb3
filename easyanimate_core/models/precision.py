"""What keeps a computation in the range of its dtype: float16 holds no value above 65504.

In float16 only what has most of the work is computed in it: attention and feed-forward of the
denoiser's blocks. What adds up over the blocks, and what is small, is in float32: residual streams,
norms and their modulation, embeddings, the last projection and the VAE. The rest is attempted in
float16 and repeated in float32 where it left the range, so that no value is cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import PrecisionError

REMEDY = (
    "Compute in float32, which takes more memory and time: --dtype float32 (ComfyUI: start it with "
    "--force-fp32)."
)
_OF_THE_WEIGHTS = (
    "No dtype has a wider range, so the weights hold such values or a LoRA is too strong: lower "
    "its strength, or download the checkpoint again."
)


def wide(dtype: torch.dtype) -> torch.dtype:
    """What is computed in beside a compute dtype where values may be large: float32 for float16."""
    return torch.float32 if dtype is torch.float16 else dtype


def within_range(
    run: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, compute: torch.dtype
) -> tuple[Tensor, ...]:
    """What `run` makes of the inputs, which come in `wide(compute)`, and results in the same.

    With float16 it is run in float16 first, and again in float32 where a result is not finite. On
    the meta device, which has no values, it is run twice, so that a plan counts the memory of both.
    """
    if compute is not torch.float16:
        return run(*inputs)
    results = run(*(x.to(compute) for x in inputs))
    if _all_finite(results):
        return tuple(x.to(wide(compute)) for x in results)
    del results
    return run(*inputs)


def check_finite(x: Tensor, what: str, dtype: torch.dtype) -> None:
    """Raise `PrecisionError` unless every value of `x`, which was computed in `dtype`, is finite.

    `what` begins the message: "The denoiser's prediction".
    """
    if not _all_finite((x,)):
        remedy = _OF_THE_WEIGHTS if dtype is torch.float32 else REMEDY
        name = str(dtype).removeprefix("torch.")
        raise PrecisionError(
            f"{what} in {name} holds values that are not finite (NaN or infinite); a video of them "
            f"would be black. {remedy}"
        )


def _all_finite(tensors: tuple[Tensor, ...]) -> bool:
    """A sum is finite only if all of its parts are; it needs no memory, and waits once."""
    total = sum(x.sum(dtype=torch.float32) for x in tensors)
    assert isinstance(total, Tensor)
    return not total.is_meta and bool(total.isfinite())
