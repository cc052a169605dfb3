"""A node pack of the tests: counts what this project keeps alive in a server.

`/easyanimate_probe` answers the number of live objects per class and the bytes of live tensors.
"""

import gc

import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
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
