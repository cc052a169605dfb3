"""ComfyUI on a Mac's GPU, played by the CPU: `tests/apple_gpu.py`."""

import sys
from pathlib import Path

import comfy.ldm.modules.attention
import comfy.model_management
import folder_paths
import torch
from safetensors.torch import load_file, save_file

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2])]
from apple_gpu import AppleGPU
from probing import Probe, empty, encode, gap, ksampler

V51, V5 = "EasyAnimateV5.1-7b-zh-InP", "EasyAnimateV5-7b-zh-InP"
FP8 = "scaled fp8 (e4m3)"
MOST_SCORES = 3 * 256 * 256  # of a text encoder, which is not divided

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
kernel = probe.module("easyanimate_core.models.transformer.kernel")
convert = probe.module("easyanimate_core.convert")
models = Path(folder_paths.base_path) / "models"
memory = comfy.model_management


def made(name, dtype="default"):
    """Latents and frames of a tiny run, and what the loader said."""
    loaded = probe.load(name, dtype)
    texts = encode(loaded.clip, "a red fox runs", "blurred")
    latents = ksampler(loaded.model, texts, empty(), steps=2)
    (frames,) = probe.run("EasyAnimateDecode", vae=loaded.vae, samples={"samples": latents})
    return latents.cpu(), frames.cpu(), loaded.report


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def stored(name, dtype):
    """A copy of V5.1's checkpoint in another format."""
    source = probe.paths.find_checkpoint(V51)
    target = models / "EasyAnimate" / name
    convert.convert(source, target, convert.Conversion(dtype=dtype))
    return name


def cast_to_fp8():
    """The denoiser as programs without scales store it."""
    (source,) = (probe.paths.find_checkpoint(V51) / "transformer").glob("*.safetensors")
    tensors = {name: x.to(torch.float8_e4m3fn) for name, x in load_file(source).items()}
    folder = models / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "plain.safetensors")


with torch.inference_mode():
    wanted = {name: made(name) for name in (V51, V5)}
    names = {dtype: stored(dtype, dtype) for dtype in ("fp8", "int8")}
    cast_to_fp8()
    memory.unload_all_models()
    memory.cpu_state = memory.CPUState.MPS
    memory.vram_state = memory.VRAMState.SHARED
    memory.mac_version = lambda: (15, 0)
    kernel.MOST_SCORES = MOST_SCORES
    calls = []
    module = probe.module("nodes.bridge.hooks")
    optimized = module.optimized_attention

    def counted(q, k, v, *arguments, **options):
        calls.append(q[..., 0].numel() * k.shape[2])
        return optimized(q, k, v, *arguments, **options)

    module.optimized_attention = counted
    with AppleGPU(most_scores=MOST_SCORES) as gpu:
        found["kernel"] = optimized.__name__
        for name, (latents, frames, _) in wanted.items():
            mine = made(name)
            found[name] = [relative(mine[0], latents), gap(mine[1], frames)]
        found["scores"] = [max(calls), sum(calls)]
        found["used"] = sorted(gpu.used)
        for dtype, name in names.items():
            latents, _, report = made(name)
            found[dtype] = [relative(latents, wanted[V51][0]), report]
        model, report = probe.run("EasyAnimateLoadDiffusionModel",
                                  diffusion_model="plain.safetensors")  # fmt: skip
        texts = encode(probe.load(V51).clip, "a red fox runs", "blurred")
        latents = ksampler(model, texts, empty(), steps=2).cpu()
        found["plain"] = [relative(latents, wanted[V51][0]), report]
        found["weight_dtype"] = probe.error(lambda: probe.load(V51, FP8))
        found["single file"] = probe.error(
            lambda: probe.run("EasyAnimateLoadDiffusionModel", diffusion_model="plain.safetensors",
                              weight_dtype=FP8)
        )  # fmt: skip
        load = probe.loaders.load_checkpoint
        folder = probe.paths.find_checkpoint(V51)
        memory.text_encoder_device = memory.get_torch_device  # as with --gpu-only
        found["text_dtype"] = probe.error(lambda: load(folder, "default", "default", FP8))
        found["text on the CPU"] = probe.error(lambda: load(folder, "default", "cpu", FP8))
        found["text in int8"] = probe.error(
            lambda: encode(load(folder, "default", "default", "scaled int8").clip, "a fox")
        )
        size = {"width": 64, "height": 64, "length": 9}
        plan, report = probe.run("EasyAnimateMemoryPlan", checkpoint=V51, memory_gb=8.0, **size)
        planning = probe.module("nodes.bridge.planning")
        found["plan"] = [report, plan.limits.shared, str(plan.compute)]
        small, _ = probe.run("EasyAnimateMemoryPlan", checkpoint="fp8", memory_gb=1.0,
                             refuse=False, **size)  # fmt: skip
        found["small plan"] = [planning.weight_dtype(small), planning.text_dtype(small)]
probe.done()
