"""EasyAnimate V5 and V5.1 in plain PyTorch: a checkpoint folder and a prompt in, a video out.

The public API is importable from here; each name is loaded when it is first used, so that importing
the package stays quick. The imports below, which type checkers and editors read, are the only list
of these names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

from .left_out import check_included
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .errors import EasyAnimateError
    from .long_prompts import enhance_prompts
    from .media import Clip, Fit, Masks, Timing, read_image, read_mask, read_video
    from .memory.options import Kernels, Memory
    from .memory.plan import Limits, Plan
    from .models.specs import Head, Version
    from .paths.camera import CameraPath, Intrinsics
    from .paths.trajectory import Track
    from .pipeline import Generation, Pipeline
    from .progress import Progress
    from .recipe import Recipe
    from .sampling import Guidance
    from .settings import Settings
    from .tasks import (
        Camera,
        Control,
        ImageToVideo,
        Loaded,
        RegionEdit,
        Target,
        Task,
        TextToVideo,
        Trajectory,
        VideoToVideo,
    )
    from .text import PromptEmbeddings, read_embeddings, write_embeddings
    from .text.enhance import LongPrompt
    from .tiny.checkpoint import make_tiny
    from .weights.files import CheckpointInfo
    from .weights.lora import Lora


def _homes() -> dict[str, str]:
    """Public name to the module that has it."""
    tree = ast.parse(inspect.getsource(sys.modules[__name__]))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f".{node.module}" for node in imports for alias in node.names}


_HOMES = _homes()
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  (its keys are strings)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        home = _HOMES[name]
        check_included(name, home.split(".")[1])
        return getattr(importlib.import_module(home, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
