"""Recordings of the original implementation that ship with the package.

A file has tensors in named groups (`weights.*`, `inputs.*`, `outputs.*`) and one metadata entry
`meta`, a JSON text. The weights are in bfloat16; the outputs were computed with them in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..files import json_value, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

#: The folder of the recordings.
RECORDINGS = Path(__file__).with_name("recordings")


@dataclass(frozen=True)
class Recording:
    """A recording's metadata and tensors."""

    path: Path
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of a group, by their names without the prefix."""
        start = prefix + "."
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}

    def weights(self, prefix: str = "weights") -> dict[str, Tensor]:
        """A network's weights in float32."""
        return {name: weight.float() for name, weight in self.group(prefix).items()}


def read_recording(path: Path) -> Recording:
    """Read a recording; `CheckpointError` if it is missing or damaged."""
    try:
        tensors, metadata = read_tensors(path)
    except ValueError as error:
        raise CheckpointError(
            f"The recording {path} cannot be read ({error}). Install the pack again."
        ) from error
    meta = json_value(metadata.get("meta", ""), dict, f"meta of {path}", error=CheckpointError)
    return Recording(path, meta, tensors)
