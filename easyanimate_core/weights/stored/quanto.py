"""optimum-quanto without its wrappers of whole models.

Those import transformers and diffusers, which takes longer than all else that a run imports. They
are still there for whoever asks the package for them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

from ...files.packages import require

_PACKAGE, _MODELS = "optimum.quanto", "optimum.quanto.models"
_lock = Lock()


def quanto() -> Any:
    """The package `optimum.quanto`; import its modules after this.

    Raises:
        InputError: It is not installed.
    """
    if sys.modules.get(_PACKAGE) is not None:
        return import_module(_PACKAGE)
    require("Keeping weights in 8 or 4 bits", [_PACKAGE])
    with _lock:
        if sys.modules.get(_PACKAGE) is not None:
            return import_module(_PACKAGE)
        sys.modules[_MODELS] = ModuleType(_MODELS)  # `from .models import *` finds nothing
        try:
            package = import_module(_PACKAGE)
        finally:
            del sys.modules[_MODELS]
        vars(package)["__getattr__"] = _from_models
    return package


def _from_models(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
    return getattr(import_module(_MODELS), name)
