"""A node pack of the tests: counts what this project keeps alive in a server.

`/easyanimate_probe` answers the number of live objects per class and the bytes of live tensors. Its
nodes stand for those of other packs in workflows of the original: two of KJNodes, and a switch.
"""

import gc

import torch
from aiohttp import web
from server import PromptServer


class SplineEditor:
    """A track as text, and masks whose size is the picture's."""

    RETURN_TYPES = ("MASK", "STRING")
    RETURN_NAMES = ("mask", "coord_str")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"coordinates": ("STRING", {"multiline": True})}}

    def run(self, coordinates):
        return torch.zeros(5, 512, 512), coordinates


class AppendStringsToList:
    """Two texts as a list."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        text = ("STRING", {"default": "", "forceInput": True})
        return {"required": {"string1": text, "string2": text}}

    def run(self, string1, string2):
        return ([string1, string2],)


class PassModel:
    """What switches of other packs do with the original's model."""

    RETURN_TYPES = ("EASYANIMATESMODEL",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("EASYANIMATESMODEL",)}}

    def run(self, model):
        return (model,)


NODE_CLASS_MAPPINGS = {
    "ProbePassModel": PassModel,
    "SplineEditor": SplineEditor,
    "AppendStringsToList": AppendStringsToList,
}
COUNTED = ("Denoiser", "VideoVAE", "TextModel", "ModelPatcher", "ScheduledSampler")


@PromptServer.instance.routes.get("/easyanimate_probe")
async def probe(_request):
    gc.collect()
    counts = dict.fromkeys(COUNTED, 0)
    storages = {}
    for thing in gc.get_objects():
        kind = type(thing).__name__
        if kind in counts:
            counts[kind] += 1
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return web.json_response({"objects": counts, "tensor_bytes": sum(storages.values())})
