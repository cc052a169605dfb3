"""How to get a published model or LoRA: the command, and the sentence of every message about it."""

from __future__ import annotations

from pathlib import Path

from ..files.commands import PACK, own_command, python_command
from .zoo import LORAS, MODELS, ZooLora, ZooModel

_SCRIPT = "install.py"
#: The node that downloads a model.
_NODE = "the node EasyAnimate Download Model"


def published(name: str) -> ZooModel | ZooLora | None:
    """The published model or LoRA that a folder, a file or a path is named after."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = last.lower().removesuffix(".safetensors")
    entries: tuple[ZooModel | ZooLora, ...] = (*MODELS.values(), *LORAS.values())
    return next((entry for entry in entries if entry.name.lower() == plain), None)


def install_command(name: str, to: Path | None = None) -> str:
    """The command that downloads a published model or LoRA, ready to run on this machine.

    Without `to`, it downloads to the folders of the ComfyUI in which the pack is installed.
    """
    words = ["--loras", name] if name in LORAS else [name]
    return _command(*words, *(["--to", str(to)] if to else []))


def list_command() -> str:
    """The command that lists what is published."""
    return _command("--list")


def how_to_install(name: str, *, command: str = "", node: bool = False) -> str:
    """How to get a published model or LoRA, as the beginning of a sentence: "Run … (30 GB)".

    Args:
        name: Its name in `MODELS` or `LORAS`.
        command: The command to show; `install_command` by default.
        node: Whether to name the node that downloads models.
    """
    entry = MODELS.get(name) or LORAS[name]
    size = f" ({entry.gigabytes:g} GB)" if entry.gigabytes else ""
    other = f", or {_NODE}" if node and name in MODELS else ""
    return f"Run {command or install_command(name)}{size}{other}"


def _command(*words: str) -> str:
    script = PACK / _SCRIPT
    return python_command(script, *words) if script.is_file() else own_command("download", *words)
