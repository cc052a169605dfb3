"""Loads TorchScript files safely: they are programs, parts of which run during loading.

So the code is inspected first, and a program that could do more than compute is not loaded at all.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..files import short

_ZIP = b"PK\x03\x04"
_MOST_CODE = 2**24
#: All TorchScript operators that access files or other processes, in any spelling.
_REACHES = re.compile(
    r"\b(save|from_file|rpc_\w+)\b"
    r"|\bops\s*\.\s*(?!prim\b|aten\b)\w+"
    r"|\btorch\s*\.\s*classes\b"
    r"|\bgetattr\s*\([^)]*\\"
)


def load_program(file: Path, device: torch.device) -> Any:
    """Load the module in a TorchScript file.

    Raises:
        CheckpointError: The file is not TorchScript, is damaged, or does more than compute.
    """
    _check(file)
    try:
        return torch.jit.load(str(file), map_location=device)
    except RuntimeError as error:
        raise CheckpointError(f"{file} is not a TorchScript file: {error}") from error


def _check(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(_ZIP))
        with zipfile.ZipFile(file) as archive:
            code = [info for info in archive.infolist() if info.filename.lower().endswith(".py")]
            size = sum(info.file_size for info in code)
            if begins != _ZIP or not code or size > _MOST_CODE:
                raise CheckpointError(
                    f"{file} is not a TorchScript file: it has {size} bytes of code."
                )
            texts = [archive.read(info).decode() for info in code]
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file} is not a TorchScript file: {error}.") from error
    found = next(filter(None, map(_REACHES.search, texts)), None)
    if found is not None:
        raise CheckpointError(
            f"{file} is a program that does more than compute: it calls {short(found[0])}. It is "
            "not run. Download the file from its authors."
        )
