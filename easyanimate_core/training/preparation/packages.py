"""The packages that only data preparation needs."""

from __future__ import annotations

import importlib.util

from ...errors import InputError
from ...files.packages import command_for_training


def check_package(name: str, wanted_by: str) -> None:
    """Raise `InputError` unless the package is installed."""
    if importlib.util.find_spec(name) is None:
        raise InputError(
            f"{wanted_by} needs the package {name}, which is not installed. Install the packages "
            f"for training: {command_for_training()}"
        )
