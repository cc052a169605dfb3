"""Registers the pack's folders and nodes with ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    camera_paths,
    control,
    doctor,
    download,
    inpaint,
    latents,
    loaders,
    original,
    original_paths,
    original_samplers,
    planning,
    preprocess,
    sampling,
    text,
    training,
)
from .bridge import detect, paths
from .bridge.original import free_ids

# On import, because ComfyUI before 0.18 does not call `on_load`.
paths.register_folders()
detect.register_folder()

NODES: tuple[type[io.ComfyNode], ...] = (
    *loaders.NODES,
    *download.NODES,
    *planning.NODES,
    *doctor.NODES,
    *text.NODES,
    *latents.NODES,
    *inpaint.NODES,
    *preprocess.NODES,
    *control.NODES,
    *camera_paths.NODES,
    *sampling.NODES,
    *training.NODES,
)
#: Under ids of another pack, where it is absent.
ORIGINAL: tuple[type[io.ComfyNode], ...] = (
    *original.NODES,
    *original_samplers.NODES,
    *original_paths.NODES,
)


class EasyAnimateExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node, and those of the original whose ids no other pack has."""
        old = {node.define_schema().node_id: node for node in ORIGINAL}
        free = free_ids(list(old))
        return [*NODES, *(node for name, node in old.items() if name in free)]


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI when it loads the pack."""
    return EasyAnimateExtension()
