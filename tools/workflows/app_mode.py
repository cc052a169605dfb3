"""What ComfyUI's App mode shows of a workflow: its main settings and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from .canvas import Node
from .schemas import PACK_PREFIX
from .words import Said

_SIZE = ("width", "height", "length")
#: The settings by type of node, in the order in which an app shows them.
SETTINGS = {
    "LoadImage": ("image",),
    "LoadVideo": ("file",),
    "VHS_LoadVideo": ("video",),
    "CLIPTextEncode": ("text",),
    "EasyAnimateTextEncode": ("positive",),
    "ImageCompositeMasked": ("x", "y"),
    "EasyAnimatePreprocess": ("kind",),
    "EasyAnimateCameraMove": ("move", "speed", "length"),
    "EasyAnimateCameraKeyframes": ("keyframes", "length"),
    "EasyAnimateCameraFile": ("poses",),
    "EasyAnimateCamera": ("move", "second_move", "speed", *_SIZE),
    "EasyAnimateControl": ("strength", *_SIZE),
    "EasyAnimateEmptyLatentVideo": _SIZE,
    "EasyAnimateImageToVideo": _SIZE,
    "EasyAnimateInpaint": _SIZE,
    "EasyAnimateVideoToVideo": _SIZE,
    "EasyAnimateLoadLora": ("lora", "strength"),
    "EasyAnimateSampler": ("seed", "steps", "denoise"),
    "KSampler": ("seed", "steps"),
    "EasyAnimateLoadCheckpoint": ("checkpoint",),
}
RESULTS = ("SaveImage", "SaveVideo", "VHS_VideoCombine")
#: Of a small model that knows one size.
FIXED = (*_SIZE, "steps", "denoise", "checkpoint")


def describe(nodes: Sequence[Node], left_out: Collection[str] = ()) -> dict[str, Any]:
    """The `extra` of a workflow whose nodes these are; it opens as a graph.

    Settings of the same name, and files, are labelled with the titles of their nodes. Sizes that
    must be the same in several nodes are left to the graph.
    """
    sizes = Counter(w.name for node in nodes if _is_ours(node) for w in node.widgets)
    left_out = {*left_out, *(name for name in _SIZE if sizes[name] > 1)}
    found = [
        (node, name)
        for kind, names in SETTINGS.items()
        for node in nodes
        if node.schema.type == kind
        for name in names
        if name not in left_out and _matters(node, name)
    ]
    often = Counter(name for _, name in found)
    for node, name in found:
        is_file = node.schema.type.startswith(("Load", "VHS_Load"))
        if node.title and (often[name] > 1 or is_file):
            own = sum(other is node for other, _ in found)
            setting = f": {name}" if own > 1 else ""
            node.labels[name] = node.title + Said(setting, setting)
    results = [node.id for node in nodes if node.schema.type in RESULTS]
    return {
        "linearData": {"inputs": [[node.id, name] for node, name in found], "outputs": results},
        "linearMode": False,
    }


def _is_ours(node: Node) -> bool:
    return node.schema.type.startswith(PACK_PREFIX)


def _matters(node: Node, name: str) -> bool:
    """Whether a setting has an effect here: not beside a link that replaces it."""
    if name in node.sources:
        return False
    if name == "denoise":
        return node.values[name] < 1
    replaced = name in ("move", "second_move", "speed")
    return not (replaced and "camera_path" in node.sources and node.schema.type.endswith("Camera"))
