"""Writing safetensors so that a disk's faults are the same errors as with every other file."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SYSTEM_ERROR = re.compile(r"os error (\d+)")


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; `OSError` where the disk is full or cannot be written to."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        found = _SYSTEM_ERROR.search(str(error))
        if found is None:
            raise OSError(errno.EIO, str(error), str(path)) from error
        code = int(found[1])
        if sys.platform == "win32":
            raise OSError(0, str(error), str(path), code) from error
        raise OSError(code, os.strerror(code), str(path)) from error
