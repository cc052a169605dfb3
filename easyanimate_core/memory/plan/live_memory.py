"""Peak memory of a computation, from the shapes of its tensors alone."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(compute: Callable[[], Any], existing: Iterable[Tensor] = ()) -> int:
    """The maximum number of bytes of live tensors while `compute` runs.

    The computation runs on the meta device: operations create shape, dtype and storage of their
    results but no values, so a step of a 12B model takes a second and no memory. Freed tensors are
    subtracted when they are freed, as in an allocator. Memory within an operation (a convolution's
    workspace) is not counted.

    Args:
        compute: Runs on tensors on the meta device.
        existing: Tensors that exist before and are not counted: weights and inputs.
    """
    with torch.no_grad(), _LiveMemory(existing) as memory:
        result = compute()
    del result
    return memory.peak


class _LiveMemory(TorchDispatchMode):
    """Intercepts every operation and counts the storages that its results create."""

    def __init__(self, existing: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._existing = list(existing)  # kept alive, so that no new storage reuses an address
        self._uncounted = {tensor.untyped_storage()._cdata for tensor in self._existing}
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._alive.clear()

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive or key in self._uncounted:
            return

        def freed(_: Any) -> None:
            self._alive.pop(key, None)
            self._now -= size

        self._alive[key] = weakref.ref(storage, freed)
        self._now += size
        self.peak = max(self.peak, self._now)
