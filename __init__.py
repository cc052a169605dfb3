"""EasyAnimate V5 and V5.1 for ComfyUI."""

import importlib.util

WEB_DIRECTORY = "./web"

# Outside ComfyUI (tests, the command line) there is nothing to register with.
if importlib.util.find_spec("comfy_api") is not None:
    from .nodes import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
