"""Checks an installation's folders and packages, without importing the packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import InputError
from ..files import read_text
from ..files.packages import command_for, is_installed, pip_command
from .places import CHECKPOINTS, DETECTORS, Places

#: Optional: requiring these packages could replace those that other software installed.
_BESIDE = {
    "cv2": ("OpenCV", "control videos"),
    "controlnet_aux": ("controlnet-aux", "control videos of lines and poses, and depth_midas"),
}
#: Optional packages, and what needs them.
_OPTIONAL = {"onnxruntime": "DWPose", "modelscope": "--source modelscope"}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)$")


def check_installation(pack: Path, places: Places) -> Iterator[str]:
    """Create ComfyUI's model folders; yield a line for everything present or missing."""
    yield from _check_packages(pack / "requirements.txt")
    if places.problem:
        yield f"warning: {places.problem} Its folders are not used."
    if places.base is None:
        yield f"{pack} is not in a ComfyUI's custom_nodes: no folder was created."
        return
    for key in (CHECKPOINTS, DETECTORS):
        folder = places.folders(key)[0]
        # A folder from extra_model_paths.yaml may be on a disk that is not mounted.
        if places.extra.get(key) and not folder.is_dir():
            yield f"missing: the folder {folder} from extra_model_paths.yaml"
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            yield f"missing: the folder {folder} cannot be created: {error.strerror or error}"
            continue
        yield f"folder   {folder}"


def _check_packages(requirements: Path) -> Iterator[str]:
    lacking = []
    for line in read_text(requirements, error=InputError).splitlines():
        wanted = _REQUIREMENT.match(line.strip())
        if wanted is None:
            continue
        name, least = wanted.groups()
        found = _version(name)
        if found is None or _numbers(found) < _numbers(least):
            lacking.append(f"{name}>={least}")
            yield f"missing: {name} {least} or newer; {found or 'none'} is installed"
        else:
            yield f"package  {name} {found}"
    if lacking:
        yield f"Install them with: {pip_command(*lacking)}"
    for module, (name, need) in _BESIDE.items():
        if is_installed(module):
            yield f"package  {name}"
        else:
            yield f"package  {name} is not installed; for {need}: {command_for([module])}"
    for name, need in _OPTIONAL.items():
        found = _version(name)
        yield f"package  {name} {found or f'is not installed; only {need} needs it'}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """The release numbers, enough to compare with the lower bounds in the requirements."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
