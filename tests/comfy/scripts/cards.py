"""What MODEL, CLIP and VAE compute in on cards of several kinds, and what float16 gives."""

import sys
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parent))
from probing import Probe, clip_of, empty, encode, gap, ksampler

V51 = "EasyAnimateV5.1-7b-zh"
PROMPT = ("a red fox runs", "blurred")
#: Whether ComfyUI computes in float16 and in bfloat16 on a card.
CARDS = {"turing": (True, False), "ampere": (True, True), "gtx 16": (False, False)}
OVERFLOWS = "transformer_blocks.0.ff.net.2.weight"

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
text_bridge = probe.module("nodes.bridge.text")


@contextmanager
def card(name):
    """ComfyUI's answers for a card; tensors stay on the CPU."""
    management = comfy.model_management
    real = management.should_use_fp16, management.should_use_bf16
    half, brain = CARDS[name]
    management.should_use_fp16 = lambda *_, **__: half
    management.should_use_bf16 = lambda *_, **__: brain
    yield
    management.should_use_fp16, management.should_use_bf16 = real


def word(dtype):
    return str(dtype).removeprefix("torch.")


def inference_dtype(model):
    """As the sampler of every release finds it."""
    return model.model.manual_cast_dtype or model.model.get_dtype()


def changed(factor, weight, name):
    """The denoiser as a single file in float32, one weight of it multiplied."""
    folder = probe.paths.find_checkpoint(V51) / "transformer"
    tensors = load_file(next(folder.glob("*.safetensors")))
    tensors = {key: tensor.float() for key, tensor in tensors.items()}
    tensors[weight] = tensors[weight] * factor
    target = Path(folder_paths.models_dir) / "diffusion_models" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target)
    (target.with_suffix(".json")).write_bytes((folder / "config.json").read_bytes())
    return name


def denoiser(file, weights):
    return probe.run("EasyAnimateLoadDiffusionModel", diffusion_model=file, weight_dtype=weights)[0]


def choices():
    for name in CARDS:
        with card(name):
            loaded = probe.load(V51)
            text = text_bridge.compute_dtype(torch.device("cuda"))
        dtypes = (inference_dtype(loaded.model), loaded.vae.vae_dtype, text)
        found[name] = [word(dtype) for dtype in dtypes]


def in_float16(texts):
    reference = ksampler(probe.load(V51).model, texts, empty())
    for weights in ("default", "fp16", "scaled fp8 (e4m3)"):
        plain = ksampler(probe.load(V51, weights).model, texts, empty())
        with card("turing"):
            loaded = probe.load(V51, weights)
            model, report = loaded.model, loaded.report
            made = ksampler(model, texts, empty())
        found[f"float16, weights {weights}"] = {
            "dtype": word(inference_dtype(model)),
            "gap": gap(made, plain) / reference.abs().max().item(),
            "report": report,
        }


def beyond_float16(texts):
    file = changed(1e7, OVERFLOWS, "overflow.safetensors")
    full = ksampler(denoiser(file, "default"), texts, empty(), steps=2)
    with card("turing"):
        # In bfloat16, as published: these weights are themselves too large for float16.
        half = ksampler(denoiser(file, "bf16"), texts, empty(), steps=2)
    found["overflow"] = gap(half, full) / full.abs().max().item()


def not_finite(loaded, texts):
    file = changed(float("inf"), "proj_out.bias", "infinite.safetensors")
    found["denoiser"] = probe.error(lambda: ksampler(denoiser(file, "default"), texts, empty()))
    latents = torch.full((1, 16, 1, 8, 8), float("nan"))
    found["decoded"] = probe.error(lambda: loaded.vae.decode(latents))
    pixels = clip_of(1, 64, 64, seed=0) * float("nan")
    found["encoded"] = probe.error(lambda: loaded.vae.encode(pixels))


loaded = probe.load(V51)
texts = encode(loaded.clip, *PROMPT)
choices()
in_float16(texts)
beyond_float16(texts)
not_finite(loaded, texts)
probe.done()
