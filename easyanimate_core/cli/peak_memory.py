"""Measures peak memory."""

from __future__ import annotations

import threading
from types import TracebackType

import torch

_INTERVAL_SECONDS = 0.01


class PeakMemory:
    """Peak memory inside the `with` block, in bytes.

    On CUDA, the memory that PyTorch allocated on the GPU; elsewhere the process's resident memory,
    sampled every 10 ms.
    """

    def __init__(self, device: torch.device) -> None:
        self.bytes = 0
        self._cuda = device.type == "cuda"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._cuda:
            self.bytes = torch.cuda.max_memory_allocated()
            return
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._stop.wait(_INTERVAL_SECONDS):
                return
