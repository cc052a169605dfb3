"""ComfyUI nodes built on `easyanimate_core`."""

from .extension import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
