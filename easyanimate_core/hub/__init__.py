"""The published models: what exists, where it belongs, and how to download it."""

from .download import (
    Wanted,
    download,
    find_missing,
    lora_states,
    model_files,
    model_state,
    named_files,
    size_text,
    target_folder,
)
from .install import how_to_install, install_command, list_command, published
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
    "RemoteFile",
    "Repository",
    "Source",
    "Wanted",
    "ZooLora",
    "ZooModel",
    "download",
    "find_lora",
    "find_missing",
    "find_model",
    "find_places",
    "how_to_install",
    "install_command",
    "list_command",
    "lora_states",
    "model_files",
    "model_state",
    "named_files",
    "published",
    "size_text",
    "target_folder",
]
