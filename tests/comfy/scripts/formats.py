"""Every stored format of a denoiser: loaded, run, patched and saved again."""

import sys
from pathlib import Path

import comfy.quant_ops
import folder_paths
import torch
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parent))
from probing import Probe, empty, encode, gap, ksampler

V51 = "EasyAnimateV5.1-7b-zh"
LORA = "EasyAnimateV5.1-tiny-lora.safetensors"
FP8 = "scaled fp8 (e4m3)"
DTYPES = ("bf16", "fp16", "fp32", "fp8", "fp8-channel", "int8")
GGUF = ("bf16", "q8_0", "q5_1", "q4_0")

models = Path(folder_paths.base_path) / "models"
probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
core = probe.module("easyanimate_core.convert")
with_lora = probe.module("nodes.bridge.lora").with_lora
source = probe.paths.find_checkpoint(f"{V51}-InP")


def converted(name, dtype, **options):
    core.convert(source, models / name, core.Conversion(dtype=dtype, force=True, **options))
    return Path(name).name


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def same_denoiser(name, dtype="default"):
    """How far a file's video is from the source's, and what the node says."""
    model, report = probe.run(
        "EasyAnimateLoadDiffusionModel", diffusion_model=name, weight_dtype=dtype
    )
    file = probe.paths.find_file("loras", LORA)
    patched, _ = with_lora(model, file, 1.0, partial=False)
    weight = model.model.diffusion_model.transformer_blocks[0].attn1.to_q.weight
    return {
        "relative": relative(ksampler(model, texts, empty()), plain),
        "relative with LoRA": relative(ksampler(patched, texts, empty()), plain_lora),
        "stored as": str(getattr(weight, "_qdata", weight).dtype),
        "report": report,
    }


def spellings(stored):
    """Scaled fp8 as other programs write it, with and without prefixes."""
    bare = {name: tensor for name, tensor in stored.items() if not name.endswith(".comfy_quant")}
    old = {name.replace(".weight_scale", ".scale_weight"): tensor for name, tensor in bare.items()}
    old |= {name.replace(".scale_weight", ".scale_input"): torch.ones(1)
            for name in old if name.endswith(".scale_weight")}  # fmt: skip
    old["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    return {
        "no notes": {f"transformer.{name}": tensor for name, tensor in bare.items()},
        "scale_weight": {f"model.diffusion_model.{name}": t for name, t in old.items()},
        "wrapped": {f"module._orig_mod.{name}": tensor for name, tensor in stored.items()},
    }


with torch.inference_mode():
    loaded = probe.load(f"{V51}-InP")
    texts = encode(loaded.clip, "a red fox runs", "blurred")
    plain = ksampler(loaded.model, texts, empty())
    patched, _ = with_lora(loaded.model, probe.paths.find_file("loras", LORA), 1.0, partial=False)
    plain_lora = ksampler(patched, texts, empty())

    found["native"] = sorted(comfy.quant_ops.QUANT_ALGOS)
    for dtype in DTYPES:
        name = converted(f"diffusion_models/{dtype}.safetensors", dtype)
        found[dtype] = same_denoiser(name)
    stored = load_file(models / "diffusion_models" / "fp8.safetensors")
    for name, spelt in spellings(stored).items():
        save_file(spelt, models / "diffusion_models" / f"{name}.safetensors")
        found[name] = same_denoiser(f"{name}.safetensors")
    for dtype in GGUF:
        name = converted(f"diffusion_models/{dtype}.gguf", dtype)
        found[f"{dtype}.gguf"] = same_denoiser(name)
    found["q8_0.gguf as fp8"] = same_denoiser("q8_0.gguf", FP8)
    found["fp8-channel as fp8"] = same_denoiser("fp8-channel.safetensors", FP8)
    nested = converted("diffusion_models/mine/deep.gguf", "q8_0")
    found["listed"] = [n for n in probe.paths.list_denoisers() if n.endswith(".gguf")]
    found["nested"] = same_denoiser(f"mine/{nested}")

    core.convert(source, models / "EasyAnimate" / "small", core.Conversion(dtype="fp8-channel"))
    small = probe.load("small")
    found["folder"] = [relative(ksampler(small.model, texts, empty()), plain), small.report]

    converted("vae/vae.safetensors", "keep", part="vae")
    vae = probe.run("EasyAnimateLoadVAE", vae_file="vae.safetensors", version="V5.1")[0]
    found["VAE"] = gap(vae.decode(plain), loaded.vae.decode(plain))
probe.done()
