"""Optional packages: which are missing, and the command that installs them.

What generating needs is installed alone (`--no-deps`), so that it cannot replace a package that
other software relies on: four packages provide OpenCV's one module, and another version of
huggingface-hub or NumPy breaks what was built for the installed one. Packages for training, and
those chosen for a machine, are installed with their dependencies.
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

#: Module -> its package on PyPI, then those of its dependencies that nothing else installs.
_PACKAGES = {
    "controlnet_aux": ("controlnet-aux",),
    "cv2": ("opencv-python-headless",),
    "einops": ("einops",),
    "optimum.quanto": ("optimum-quanto",),
    "scipy": ("scipy",),
    "skimage": ("scikit-image", "imageio", "tifffile", "lazy-loader", "networkx"),
    "timm": ("timm",),
}
#: The same for packages installed with their dependencies; requirements-training.txt has those of
#: training.
_WITH_NEEDS = {
    "accelerate": "accelerate>=1.10,<2",
    "bitsandbytes": "bitsandbytes",
    "gradio": "gradio>=6.20,<7",
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
#: From this release on, OpenCV requires NumPy 2.
_OPENCV_OF_NUMPY_2 = "4.12"


def is_installed(module: str) -> bool:
    """Whether a module can be imported. Only its parent packages are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # its parent is missing, or it has no file
        return False


def require(wanted_by: str, modules: Iterable[str]) -> None:
    """Raise `InputError` with the installation command if modules are missing."""
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
    """The command that installs the missing packages of these modules.

    All of them are installed alone, or all with their dependencies.
    """
    modules = list(modules)
    if not _PACKAGES.keys() & set(modules):
        return pip_command(*(_WITH_NEEDS[module] for module in modules))
    named = [_PACKAGES[module] for module in modules]
    # A module can be gone while its package counts as installed: uninstalling one of OpenCV's
    # packages removes the module of all.
    again = [own for own, *_ in named if _release(own) is not None]
    needed = {name for names in named for name in names if _release(name) is None} | {*again}
    flags = ("--no-deps", "--force-reinstall") if again else ("--no-deps",)
    return pip_command(*flags, *map(_fitting, sorted(needed)))


def pip_command(*words: str | os.PathLike[str]) -> str:
    """The command that installs into this Python; environments made by uv have no pip."""
    # Not by find_spec: on it, setuptools' import hook turns off its own distutils for the rest of
    # the process, and whatever imports setuptools afterwards (quanto, torch.compile) fails.
    if _release("pip") is not None:
        return python_command("-m", "pip", "install", *words)
    return joined("uv", "pip", "install", "--python", sys.executable or "python", *words)


def _fitting(name: str) -> str:
    """The requirement for pip; for OpenCV, a release that fits the installed NumPy."""
    numpy = re.match(r"\d+", _release("numpy") or "")
    if name == "opencv-python-headless" and numpy and int(numpy[0]) < 2:
        return f"{name}<{_OPENCV_OF_NUMPY_2}"
    return name


def _release(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
