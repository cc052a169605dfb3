"""Finds ComfyUI's model folders without importing ComfyUI.

ComfyUI-Manager runs `install.py` in a separate process, where `folder_paths` is not available.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError

CHECKPOINTS, DETECTORS, LORAS = "EasyAnimate", "controlnet_aux", "loras"

#: Set by ComfyUI-Manager for its scripts: the folders of ComfyUI's data and code.
_BASE, _CODE = "COMFYUI_FOLDERS_BASE_PATH", "COMFYUI_PATH"


@dataclass(frozen=True)
class Places:
    """ComfyUI's base folder (None outside ComfyUI) and what extra_model_paths.yaml adds.

    `extra` maps a key to its folders in ComfyUI's order; for the keys in `first` they come before
    ComfyUI's own. `problem` describes a fault of the file, or is "".
    """

    base: Path | None
    extra: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    first: frozenset[str] = frozenset()
    problem: str = ""

    def folders(self, key: str) -> list[Path]:
        """All folders of a key in ComfyUI's search order; [] outside ComfyUI.

        This pack's keys are registered after the file is read, so the file's folders come first.
        """
        own = [] if self.base is None else [self.base / "models" / key]
        extra = list(self.extra.get(key, ()))
        return extra + own if key in self.first or key != LORAS else own + extra


def find_places(pack: Path, environment: Mapping[str, str]) -> Places:
    """The model folders of the ComfyUI in which the folder `pack` is installed."""
    base = next((path for path in _bases(pack, environment) if _is_base(path)), None)
    if base is None:
        return Places(None)
    codes = [base, *(Path(environment[name]) for name in (_CODE,) if environment.get(name))]
    file = next((f for c in codes if (f := c / "extra_model_paths.yaml").is_file()), None)
    if file is None:
        return Places(base)
    try:
        extra, first = _read(file)
    except (ImportError, OSError, ValueError, TypeError, AttributeError) as error:
        return Places(base, problem=f"{file} cannot be read ({type(error).__name__}: {error}).")
    return Places(base, extra, first)


def checkpoints_in(root: Path) -> dict[str, Path]:
    """The checkpoint folders at most two levels below `root`, by their path relative to it."""
    found = (folder for pattern in ("*", "*/*") for folder in root.glob(pattern))
    return {f.relative_to(root).as_posix(): f for f in found if is_checkpoint(f)}


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint: it has transformer/ and vae/."""
    return (folder / "transformer").is_dir() and (folder / "vae").is_dir()


def _bases(pack: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    if pack.parent.name == "custom_nodes":
        yield pack.parent.parent
    for name in (_BASE, _CODE):  # a symlinked pack is not inside custom_nodes
        if environment.get(name):
            yield Path(environment[name])


def _is_base(folder: Path) -> bool:
    return (folder / "models").is_dir() or (folder / "main.py").is_file()


def _read(file: Path) -> tuple[dict[str, tuple[Path, ...]], frozenset[str]]:
    """Read the file as ComfyUI's `utils/extra_config.py` does."""
    from ..files.yaml_text import read_yaml

    sections: Any = read_yaml(file, object, error=InputError) or {}
    if not isinstance(sections, dict):
        raise InputError("it has no sections")
    found: dict[str, list[Path]] = {CHECKPOINTS: [], DETECTORS: [], LORAS: []}
    first = set()
    for name, section in sections.items():
        if not isinstance(section, dict | None):
            raise InputError(f"{name} is not a section: indent its entries below the name")
        entries: dict[str, Any] = dict(section or {})
        base = entries.pop("base_path", "")
        root = file.absolute().parent / os.path.expandvars(Path(base).expanduser())
        default = entries.pop("is_default", False)
        for key in found.keys() & entries.keys():
            paths = [root / line for line in entries[key].split("\n") if line]
            found[key] = [*reversed(paths), *found[key]] if default else [*found[key], *paths]
            first |= {key} if default else set()
    extra = {key: tuple(Path(os.path.normpath(p)) for p in paths) for key, paths in found.items()}
    return extra, frozenset(first)
