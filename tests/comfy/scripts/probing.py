"""What the scripts share: the pack's modules by name, its tiny checkpoints, and results as JSON."""

import asyncio
import importlib
import json

import torch


class Probe:
    """The pack inside ComfyUI, and the numbers that a script finds."""

    def __init__(self, pack):
        self.name = pack.__name__
        extension = asyncio.run(pack.comfy_entrypoint())
        listed = asyncio.run(extension.get_node_list())
        self.nodes = {node.define_schema().node_id: node for node in listed}
        self.loaders = self.module("nodes.bridge.loaders")
        self.paths = self.module("nodes.bridge.paths")
        self.sampling = self.module("nodes.bridge.sampling")
        self.core = self.module("easyanimate_core")
        self.found = {}

    def module(self, path):
        return importlib.import_module(f"{self.name}.{path}")

    def load(self, checkpoint, dtype="default"):
        """MODEL, CLIP, VAE and report of a checkpoint folder."""
        folder = self.paths.find_checkpoint(checkpoint)
        return self.loaders.load_checkpoint(folder, dtype, "default")

    def run(self, node_id, **inputs):
        """Outputs of one of the pack's nodes; widgets that are not given have their defaults."""
        node = self.nodes[node_id]
        prepared = node.PREPARE_CLASS_CLONE({}) if hasattr(node, "PREPARE_CLASS_CLONE") else node
        return prepared.execute(**{**defaults(node), **inputs}).args

    def sample(self, model, texts, latent, **settings):
        """Latents of the pack's own sampler."""
        chosen = {"seed": 43, "steps": 6, "cfg": 6.0, **settings}
        settings = self.sampling.SamplerSettings(**chosen)
        return self.sampling.sample(model, *texts, latent, settings)["samples"]

    def error(self, call):
        """Type and message of what a call raises; None where it does not."""
        try:
            call()
        except BaseException as error:  # the newest ComfyUI cancels with one
            return [type(error).__name__, str(error)]
        return None

    def done(self):
        """Print what was found, for the test to read."""
        print("\nFOUND " + json.dumps(self.found))


def defaults(node):
    """Default values of a V3 node's widgets."""
    values = {}
    for item in node.define_schema().inputs:
        default = getattr(item, "default", None)
        options = getattr(item, "options", None)
        if default is None and options and not getattr(item, "optional", False):
            default = options[0]
        if default is not None:
            values[item.id] = getattr(default, "value", default)
    return values


def execute(node, **inputs):
    """The first output of one of ComfyUI's own nodes, V3 or V1."""
    if hasattr(node, "define_schema"):
        return node.execute(**{**defaults(node), **inputs}).args[0]
    instance = node()
    return getattr(instance, instance.FUNCTION)(**inputs)[0]


def encode(clip, *texts):
    """CONDITIONING of each text, as CLIP Text Encode gives it."""
    return [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts]


def ksampler(
    model, texts, latent, *, steps=6, cfg=6.0, sampler="euler", scheduler="normal", **more
):
    """Latents of ComfyUI's KSampler."""
    import nodes

    out = nodes.common_ksampler(model, 43, steps, cfg, sampler, scheduler, *texts, latent, **more)
    return out[0]["samples"]


def gap(a, b):
    """Largest absolute difference."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return (a.float() - b.float()).abs().max().item()


def empty(frames=9, height=64, width=64, batch=1):
    """A LATENT of zeros."""
    size = (batch, 16, (frames - 1) // 4 + 1, height // 8, width // 8)
    return {"samples": torch.zeros(size)}


def clip_of(frames, height, width, seed):
    """Smooth random frames [F, H, W, 3] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 3, frames, height // 8, width // 8, generator=generator)
    size = (frames, height, width)
    video = torch.nn.functional.interpolate(noise, size=size, mode="trilinear")
    return video[0].movedim(0, -1).contiguous()
