"""Reading a checkpoint's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ... import files
from ...errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `CheckpointError` with the file and the fault."""
    remedy = "Download this folder of the checkpoint again."
    return files.read_json(path, dict, error=CheckpointError, remedy=remedy)
