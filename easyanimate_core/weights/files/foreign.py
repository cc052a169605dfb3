"""Third-party models in the format of transformers, used unchanged.

The library builds what their files describe. Code in such a folder never runs, and none is
downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...files import read_json, short

_REMEDY = "Download the folder again, or name another model's."
#: Beyond any layer width and vocabulary size.
_LARGEST = 2**31
_MOST_LAYERS = 2000
_BYTES = 64 * 2**20
_KERNELS = ("attn_implementation", "_attn_implementation")


def load_foreign(kind: Any, folder: Path, **options: Any) -> Any:
    """Load a folder with `kind`, a class of transformers.

    Raises:
        CheckpointError: A file is damaged, requires code, or describes an absurdly large network.
    """
    for path in sorted(folder.glob("*.json")):
        if not path.name.endswith(".index.json"):
            content = read_json(
                path, object, error=CheckpointError, remedy=_REMEDY, limit=_BYTES, finite=False
            )
            if path.name == "config.json":
                _check_config(path, content)
    try:
        return kind.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:  # of any kind: the library trusts the content of the files
        said = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{folder} cannot be loaded ({type(error).__name__}: {said}). {_REMEDY}"
        ) from error


def _check_config(path: Path, content: Any) -> None:
    for key, value in _items(content):
        fault = None
        if key in _KERNELS and isinstance(value, str) and "/" in value:
            fault = "which refers to code on a hub"
        elif isinstance(value, int) and abs(value) > _LARGEST:
            fault = "which is larger than anything in a network"
        elif isinstance(value, int) and ("layers" in key or key == "depth"):
            fault = f"but {_MOST_LAYERS} is the maximum" if value > _MOST_LAYERS else None
        if fault is not None:
            raise CheckpointError(f"{path} has {key} = {short(value)}, {fault}. {_REMEDY}")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield key, below
            yield from _items(below)
    elif isinstance(value, list):
        for below in value:
            yield from _items(below)
