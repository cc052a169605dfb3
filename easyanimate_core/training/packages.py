"""The packages that only training needs."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import InputError
from ..files.packages import pip_command

#: Module -> package name for pip.
_PACKAGES = {
    "accelerate": "accelerate",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "matplotlib": "matplotlib",
}


def require_packages() -> None:
    """Raise `InputError` if packages for training are missing."""
    missing = [name for module, name in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise InputError(
            f"Training needs packages that are not installed: {' '.join(missing)} "
            f"(requirements-training.txt lists all). Install them with: {pip_command(*missing)}"
        )
