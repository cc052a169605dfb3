"""EasyAnimate V5 and V5.1 in plain PyTorch: a checkpoint folder and a prompt in, a video out.

The public API is importable from here; names are loaded on first use, so that importing the package
stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .errors import EasyAnimateError
    from .media import Clip, read_image, read_mask, read_video
    from .memory.options import Memory
    from .pipeline import Generation, Pipeline
    from .recipe import Recipe
    from .settings import Settings
    from .tasks import (
        Camera,
        Control,
        ImageToVideo,
        RegionEdit,
        TextToVideo,
        Trajectory,
        VideoToVideo,
    )
    from .text import PromptEmbeddings, read_embeddings, write_embeddings
    from .tiny.checkpoint import make_tiny
    from .weights.lora import Lora

_HOMES = {
    "errors": ("EasyAnimateError",),
    "weights.lora": ("Lora",),
    "media": ("Clip", "read_image", "read_mask", "read_video"),
    "memory.options": ("Memory",),
    "pipeline": ("Generation", "Pipeline"),
    "recipe": ("Recipe",),
    "settings": ("Settings",),
    "tasks": (
        "Camera",
        "Control",
        "ImageToVideo",
        "RegionEdit",
        "TextToVideo",
        "Trajectory",
        "VideoToVideo",
    ),
    "text": ("PromptEmbeddings", "read_embeddings", "write_embeddings"),
    "tiny.checkpoint": ("make_tiny",),
}

__all__ = [
    "Camera",
    "Clip",
    "Control",
    "EasyAnimateError",
    "Generation",
    "ImageToVideo",
    "Lora",
    "Memory",
    "Pipeline",
    "PromptEmbeddings",
    "Recipe",
    "RegionEdit",
    "Settings",
    "TextToVideo",
    "Trajectory",
    "VideoToVideo",
    "__version__",
    "make_tiny",
    "read_embeddings",
    "read_image",
    "read_mask",
    "read_video",
    "write_embeddings",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
