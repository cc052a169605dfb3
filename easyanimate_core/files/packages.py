"""Packages that a part needs and others do without: what is missing, and how it is added.

What generating needs is added alone (`--no-deps`), so that it cannot replace a package that
something beside this project relies on: OpenCV comes in four packages of one module, and another
huggingface-hub or NumPy than the one that is there breaks what was made for that one. What training
needs, and what is chosen for a machine, comes with its own needs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from ..errors import InputError
from .commands import joined, python_command

#: Modules to what pip calls their packages, and what of a package's own needs nobody brings.
_PACKAGES = {
    "controlnet_aux": ("controlnet-aux",),
    "cv2": ("opencv-python-headless",),
    "einops": ("einops",),
    "optimum.quanto": ("optimum-quanto",),
    "scipy": ("scipy",),
    "skimage": ("scikit-image", "imageio", "tifffile", "lazy-loader", "networkx"),
    "timm": ("timm",),
}
#: The same of packages that come with what they need themselves; requirements-training.txt has the
#: lines of training.
_WITH_NEEDS = {
    "accelerate": "accelerate>=1.10,<2",
    "bitsandbytes": "bitsandbytes",
    "imagehash": "imagehash>=4.3.1,<5",
    "matplotlib": "matplotlib>=3.9",
    "onnxruntime": "onnxruntime",
    "pydantic": "pydantic>=2.10,<3",
    "rapidocr": "rapidocr",
    "scenedetect": "scenedetect-headless>=0.7,<0.8",
    "yaml": "pyyaml>=6",
}
#: Modules that every training imports.
TRAINING = ("accelerate", "pydantic", "yaml", "matplotlib")
#: OpenCV's releases from this one on are made for NumPy 2.
_OPENCV_OF_NUMPY_2 = "4.12"


def is_installed(module: str) -> bool:
    """Whether a module could be imported; nothing is imported but the packages that hold it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # what holds it is missing, or it has no file
        return False


def require(wanted_by: str, modules: Iterable[str]) -> None:
    """Raise `InputError` with the command that helps where modules are not installed."""
    missing = [module for module in modules if not is_installed(module)]
    if not missing:
        return
    missing = [module for module in missing if module in _PACKAGES] or missing
    names = [_PACKAGES[m][0] if m in _PACKAGES else re.split("[<>]", _WITH_NEEDS[m])[0]
             for m in missing]  # fmt: skip
    raise InputError(
        f"{wanted_by} needs {' and '.join(names)}, which {'is' if len(missing) == 1 else 'are'} "
        f"not installed. This adds what is missing: {command_for(missing)}"
    )


def command_for(modules: Iterable[str]) -> str:
    """The command that adds the packages of these modules as far as they are missing.

    All of them come alone, or all with their own needs.
    """
    modules = list(modules)
    if not _PACKAGES.keys() & set(modules):
        return pip_command(*(_WITH_NEEDS[module] for module in modules))
    named = [_PACKAGES[module] for module in modules]
    # A module can be gone while its package counts as installed: another package of the same
    # module was removed, as happens with OpenCV's.
    again = [own for own, *_ in named if _release(own) is not None]
    needed = {name for names in named for name in names if _release(name) is None} | {*again}
    flags = ("--no-deps", "--force-reinstall") if again else ("--no-deps",)
    return pip_command(*flags, *map(_fitting, sorted(needed)))


def pip_command(*words: str | os.PathLike[str]) -> str:
    """The command that installs into this Python; environments that uv has made have no pip."""
    if is_installed("pip"):
        return python_command("-m", "pip", "install", *words)
    return joined("uv", "pip", "install", "--python", sys.executable or "python", *words)


def _fitting(name: str) -> str:
    """What to ask pip for: of OpenCV a release for the NumPy that is there."""
    numpy = re.match(r"\d+", _release("numpy") or "")
    if name == "opencv-python-headless" and numpy and int(numpy[0]) < 2:
        return f"{name}<{_OPENCV_OF_NUMPY_2}"
    return name


def _release(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
