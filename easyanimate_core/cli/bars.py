"""Progress bars for the stages of a run."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

LABELS = {
    "load": "Loading",
    "detect": "Detecting",
    "encode": "Encoding",
    "denoise": "Denoising",
    "merge": "Merging",
    "decode": "Decoding",
    "verify": "Verifying",
    "download": "Downloading",
    "convert": "Converting",
    "probe": "Comparing",
    "read": "Reading headers",
    "check": "Reading clips",
    "compare": "Comparing clips",
    "train": "Training",
    "generate": "Generating",
    "judge": "Judging",
    "draw": "Drawing",
    "scenes": "Finding scenes",
    "clips": "Writing clips",
    "measure": "Measuring",
    "likeness": "Measuring with CLIP",
    "hash": "Hashing",
    "parity": "Comparing with the original",
    "caption": "Captioning",
    "report": "Drawing",
}

#: Stages whose units are bytes.
_BYTES = ("verify", "download")


class ProgressBars:
    """A `Progress` callback that shows one bar per stage on the terminal."""

    def __init__(self, prefix: str = "", *, leave: bool = True) -> None:
        self._prefix = prefix
        self._leave = leave
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show `done` of `total` of `stage`."""
        from tqdm import tqdm

        if stage != self._stage or self._bar is None or total != self._bar.total:
            self.close()
            self._stage = stage
            label = self._prefix + LABELS.get(stage, stage)
            counts_bytes = stage in _BYTES
            self._bar = tqdm(
                total=total,
                desc=label,
                leave=self._leave,
                file=sys.stderr,
                disable=None,
                unit="B" if counts_bytes else "it",
                unit_scale=counts_bytes,
            )
        self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Close the current bar."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
