"""The published models: what exists, where it belongs, and how to download it."""

from .download import (
    Plan,
    download,
    lora_states,
    make_plan,
    model_files,
    model_state,
    named_files,
    size_text,
    target_folder,
)
from .places import Places, find_places
from .sources import SOURCES, HuggingFace, ModelScope, RemoteFile, Repository, Source
from .zoo import (
    HUGGINGFACE,
    LORA_REPO,
    LORAS,
    MODELS,
    MODELSCOPE,
    OWNERS,
    ZooLora,
    ZooModel,
    find_lora,
    find_model,
)

__all__ = [
    "HUGGINGFACE",
    "LORAS",
    "LORA_REPO",
    "MODELS",
    "MODELSCOPE",
    "OWNERS",
    "SOURCES",
    "HuggingFace",
    "ModelScope",
    "Places",
    "Plan",
    "RemoteFile",
    "Repository",
    "Source",
    "ZooLora",
    "ZooModel",
    "download",
    "find_lora",
    "find_model",
    "find_places",
    "lora_states",
    "make_plan",
    "model_files",
    "model_state",
    "named_files",
    "size_text",
    "target_folder",
]
