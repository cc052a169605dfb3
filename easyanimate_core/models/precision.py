"""Mixed precision that keeps values within float16's range, whose maximum is 65504.

Only the expensive parts run in float16: attention and feed-forward of the denoiser's blocks. What
accumulates over the blocks, and what is cheap, is in float32: residual streams, norms and their
modulation, embeddings, the last projection and the VAE. The float16 parts are repeated in float32
if they overflow, so that no value is clipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import PrecisionError

REMEDY = (
    "Compute in float32, which takes more memory and time: --dtype float32 (ComfyUI: start it with "
    "--force-fp32)."
)
_OF_THE_WEIGHTS = (
    "No dtype has a wider range, so the weights contain such values or a LoRA is too strong: lower "
    "its strength, or download the checkpoint again."
)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype for values too large for the compute dtype: float32 for float16, else the same."""
    return torch.float32 if dtype is torch.float16 else dtype


def within_range(
    run: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, compute: torch.dtype
) -> tuple[Tensor, ...]:
    """Run `run(*inputs)`; inputs and results are in `wide(compute)`.

    With float16, it runs in float16 first, and again in float32 if a result is not finite. On the
    meta device, which has no values, it runs twice, so that a plan counts the memory of both.
    """
    if compute is not torch.float16:
        return run(*inputs)
    results = run(*(x.to(compute) for x in inputs))
    if _all_finite(results):
        return tuple(x.to(wide(compute)) for x in results)
    del results
    return run(*inputs)


class FiniteCheck:
    """`check_finite` for the predictions of a run, without waiting for a card in every step.

    A card's answers are read once they have arrived: usually one step later, at the latest in
    `finish`. Other devices answer at once.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._sent: deque[tuple[torch.cuda.Event, Tensor, torch.dtype]] = deque()

    def add(self, x: Tensor, dtype: torch.dtype) -> None:
        """Raise `PrecisionError` if `x`, computed in `dtype`, or an earlier one is not finite."""
        if x.device.type != "cuda":
            check_finite(x, self._what, dtype)
            return
        answer = _sum((x,)).to("cpu", non_blocking=True)  # to page-locked memory
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(x.device))
        self._sent.append((arrived, answer, dtype))
        while self._sent and self._sent[0][0].query():
            self._read()

    def finish(self) -> None:
        """Wait for the remaining answers; raises as `add` does."""
        while self._sent:
            self._read()

    def _read(self) -> None:
        arrived, answer, dtype = self._sent.popleft()
        arrived.synchronize()
        check_finite(answer, self._what, dtype)


def check_finite(x: Tensor, what: str, dtype: torch.dtype) -> None:
    """Raise `PrecisionError` unless all values of `x`, computed in `dtype`, are finite.

    `what` starts the message: "The denoiser's prediction".
    """
    if not _all_finite((x,)):
        remedy = _OF_THE_WEIGHTS if dtype is torch.float32 else REMEDY
        name = str(dtype).removeprefix("torch.")
        raise PrecisionError(
            f"{what} in {name} contains NaN or infinite values; the video would be black. {remedy}"
        )


def _all_finite(tensors: tuple[Tensor, ...]) -> bool:
    """Checked by the sum, which takes no memory and synchronises with the device only once."""
    total = _sum(tensors)
    return not total.is_meta and bool(total.isfinite())


def _sum(tensors: tuple[Tensor, ...]) -> Tensor:
    total = sum(x.sum(dtype=torch.float32) for x in tensors)
    assert isinstance(total, Tensor)
    return total
