"""The memory plan and the nodes that take it: `planning.py`."""

import sys
from pathlib import Path

import comfy.patcher_extension
import torch

sys.path.append(str(Path(__file__).parent))
from probing import Probe, empty, gap

CHECKPOINT = "EasyAnimateV5.1-7b-zh-InP"

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
SIZE = {"checkpoint": CHECKPOINT, "width": 64, "height": 64, "length": 9}


def plan(**inputs):
    return probe.run("EasyAnimateMemoryPlan", **{**SIZE, "memory_gb": 8.0, **inputs})


def rows_of_each_call(model):
    """How many rows the denoiser is given at a time, and the latents."""
    rows = []

    def watch(executor, x, *args, **kwargs):
        rows.append(len(x))
        return executor(x, *args, **kwargs)

    watched = model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    watched.add_wrapper_with_key(kind, "watch", watch)
    return rows, watched


def sampler(model, texts, given):
    rows, watched = rows_of_each_call(model)
    (latent,) = probe.run(
        "EasyAnimateSampler",
        model=watched,
        positive=texts[0],
        negative=texts[1],
        latent_image=empty(),
        steps=3,
        plan=given,
    )
    return sorted(set(rows)), latent["samples"]


here, report = plan()
found["cpu"] = [here.fits, report]
found["refused"] = probe.error(lambda: plan(card_gb=0.7, width=1344, height=768, length=49))
far, _ = plan(card_gb=0.7, width=1344, height=768, length=49, refuse=False)
found["only said"] = far.fits

_, with_writing = plan(enhance=True)
found["writes"] = ["\n  write " in report, "\n  write " in with_writing]

planning = probe.module("nodes.bridge.planning")
Job = probe.module("easyanimate_core.memory.plan").Job
sparing = planning.plan_run(probe.paths.find_checkpoint(CHECKPOINT), Job(768, 1344, 49), 0.7, 8.0)
found["filled"] = planning.fill_defaults(sparing, "default", "default", "default")
found["kept"] = planning.fill_defaults(sparing, "bf16", "cpu", "scaled int8")
found["one at a time"] = sparing.memory.sequential_guidance

model, *_ = probe.run(
    "EasyAnimateLoadCheckpoint", checkpoint=CHECKPOINT, weight_dtype="default",
    text_device="default", plan=sparing,
)  # fmt: skip
weight = model.model.diffusion_model.transformer_blocks[0].ff.net[0].proj.weight
found["loaded as"] = str(getattr(weight, "_qdata", weight).dtype)
loaded = probe.load(CHECKPOINT)
model, clip, vae = loaded.model, loaded.clip, loaded.vae
texts = probe.run("EasyAnimateTextEncode", clip=clip, positive="a red fox", negative="blurred")[:2]
together, alone = sampler(model, texts, None), sampler(model, texts, sparing)
found["rows"] = [together[0], alone[0]]
found["same"] = gap(together[1], alone[1])
latents = {"samples": torch.randn(1, 16, 1, 48, 48, generator=torch.Generator().manual_seed(0))}
by_plan, by_hand = (
    probe.run("EasyAnimateDecode", vae=vae, samples=latents, **given)[0]
    for given in ({"plan": sparing}, {"tiles": str(sparing.tile)})
)
found["tile"] = sparing.tile
found["same frames"] = torch.equal(by_plan, by_hand)
estimate = model.model.memory_required([2, 16, 13, 48, 84])
one = model.model.memory_required([1, 16, 13, 48, 84])
found["required"] = [one, estimate]
# As newer releases ask if a node has chosen the attention.
found["required by a node"] = [
    model.model.memory_required(
        [2, 16, 13, 48, 84], cond_shapes={"c_crossattn": [(1, 256, 32)]},
        memory_efficient_attention=efficient,
    )
    for efficient in (True, False)
]  # fmt: skip
probe.done()
