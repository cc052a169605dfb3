"""Loaders: dtypes, single files, other folders, partial loading, text, decoding, refusals."""

import copy
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch
import utils.extra_config
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parent))
from comfy_extras import nodes_model_merging
from probing import Probe, clip_of, empty, encode, gap, ksampler

V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
LORA = "EasyAnimateV5.1-tiny-lora.safetensors"
PROMPT, LONG = "a red fox runs", "a red fox " * 300

base = Path(folder_paths.base_path)
elsewhere = base / "elsewhere"
(elsewhere / "ckpt").mkdir(parents=True, exist_ok=True)
yaml = base / "extra_model_paths_test.yaml"
yaml.write_text(f"test:\n  base_path: {elsewhere}\n  EasyAnimate: ckpt\n  vae: vaes\n")
utils.extra_config.load_extra_path_config(str(yaml))

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
bridge = {n: probe.module(f"nodes.bridge.{n}") for n in ("lora", "vae", "model")}


def file_of(checkpoint, part):
    folder = probe.paths.find_checkpoint(checkpoint) / part
    return next(folder.glob("*.safetensors"))


def core_text(checkpoint, prompts):
    folder = probe.paths.find_checkpoint(checkpoint)
    info = probe.module("easyanimate_core.weights.files").inspect_checkpoint(folder)
    build = probe.module("easyanimate_core.text").build_text_encoder
    masked = info.transformer.enable_text_attention_mask
    encoder = build(folder, info.version, use_attention_mask=masked, dtype=torch.float32)
    return encoder.encode(prompts)


def put(key, source, name):
    """A single file in one of ComfyUI's folders, with the config beside it."""
    folder = base / "models" / key
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, folder / name)
    config = source.parent / "config.json"
    if config.is_file():
        shutil.copy(config, (folder / name).with_suffix(".json"))
    return name


def text_encoders():
    """CLIP's states are the core's; long prompts are reported."""
    key = probe.module("nodes.bridge.shown").TEXT_T5
    for name in (V51, V5):
        clip = probe.load(name).clip
        for text in (PROMPT, "一只红色的狐狸", "", "(fox:1.3)", LONG):
            ((states, extra),) = encode(clip, text)[0]
            wanted = core_text(name, [text])
            found[f"text {name} {text[:12]}"] = gap(states, wanted.text)
            if wanted.text_t5 is not None:
                found[f"text T5 {name} {text[:12]}"] = gap(extra[key], wanted.text_t5)
        out = probe.run("EasyAnimateTextEncode", clip=clip, positive=LONG, negative="bad")
        found[f"report {name}"] = out[2]
        found[f"node {name}"] = gap(out[0][0][0], encode(clip, LONG)[0][0][0])
        out = probe.run("EasyAnimateTextEncode", clip=clip, positive=PROMPT)
        found[f"report short {name}"] = out[2]


def dtypes(loaded, texts, plain):
    """Weight dtypes: bytes of the denoiser and how far the result moves."""
    for dtype in bridge["model"].WEIGHT_DTYPES:
        model = probe.load(f"{V51}-InP", dtype).model
        moved = ksampler(model, texts, empty())
        file = probe.paths.find_file("loras", LORA)
        patched, _ = bridge["lora"].with_lora(model, file, 1.0, partial=False)
        reference, _ = bridge["lora"].with_lora(loaded.model, file, 1.0, partial=False)
        found[f"dtype {dtype}"] = {
            "bytes": block_bytes(model),
            "relative": relative(moved, plain),
            "relative with LoRA": relative(
                ksampler(patched, texts, empty()), ksampler(reference, texts, empty())
            ),
        }


def block_bytes(model):
    """Memory of the matrices in attention and feed-forward."""
    blocks = model.model.diffusion_model.transformer_blocks
    weights = (p for n, p in blocks.named_parameters() if p.ndim == 2 and "norm" not in n)
    stored = (getattr(weight, "_qdata", weight) for weight in weights)
    return sum(tensor.numel() * tensor.dtype.itemsize for tensor in stored)


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def single_files(loaded, texts, plain):
    """Denoiser, VAE and text encoder from single files."""
    put("diffusion_models", file_of(f"{V51}-InP", "transformer"), "one.safetensors")
    model, report = probe.run("EasyAnimateLoadDiffusionModel", diffusion_model="one.safetensors")
    found["single denoiser"] = [gap(ksampler(model, texts, empty()), plain), report]
    (base / "models/diffusion_models/one.json").unlink()
    model, report = probe.run("EasyAnimateLoadDiffusionModel", diffusion_model="one.safetensors")
    found["single denoiser without config"] = [gap(ksampler(model, texts, empty()), plain), report]
    with_vae = probe.run(
        "EasyAnimateLoadDiffusionModel", diffusion_model="one.safetensors", vae=loaded.vae
    )[0]
    found["preview colours"] = [
        bool(m.model.latent_format.latent_rgb_factors) for m in (model, with_vae, loaded.model)
    ]
    put("vae", file_of(V51, "vae"), "v51.safetensors")
    vae = probe.run("EasyAnimateLoadVAE", vae_file="v51.safetensors", version="V5.1")[0]
    found["single VAE"] = gap(vae.decode(plain), loaded.vae.decode(plain))
    clip = probe.run("EasyAnimateLoadTextEncoder", text_encoder=V5)[0]
    found["text encoder of a folder"] = gap(
        encode(clip, PROMPT)[0][0][0], core_text(V5, [PROMPT]).text
    )

    saver = nodes_model_merging.ModelSave()
    saver.save(model=loaded.model, filename_prefix="diffusion_models/saved")
    saved = next((base / "output/diffusion_models").glob("saved*.safetensors"))
    name = put("diffusion_models", saved, "saved.safetensors")
    again = probe.run("EasyAnimateLoadDiffusionModel", diffusion_model=name)[0]
    found["saved"] = gap(ksampler(again, texts, empty()), plain)
    fp8 = probe.load(f"{V51}-InP", "scaled fp8 (e4m3)").model
    saver.save(model=fp8, filename_prefix="diffusion_models/fp8")
    saved = next((base / "output/diffusion_models").glob("fp8*.safetensors"))
    name = put("diffusion_models", saved, "fp8.safetensors")
    again = probe.run("EasyAnimateLoadDiffusionModel", diffusion_model=name)[0]
    found["saved fp8"] = gap(ksampler(again, texts, empty()), ksampler(fp8, texts, empty()))


def partial_loading():
    """The same bits from a model of which only a part is on the device.

    In float32, because ComfyUI rounds a patched weight to the dtype that it is stored in when it
    loads the whole model, and does not when it streams.
    """
    stored = file_of(f"{V51}-InP", "transformer")
    tensors = {name: tensor.float() for name, tensor in load_file(stored).items()}
    save_file(tensors, base / "models/diffusion_models/full.safetensors")
    model, _ = probe.run("EasyAnimateLoadDiffusionModel", diffusion_model="full.safetensors")
    file = probe.paths.find_file("loras", LORA)
    patched, _ = bridge["lora"].with_lora(model, file, 1.0, partial=False)
    half = comfy.model_management.module_size(model.model.diffusion_model) // 2
    for name, patcher in (("plain", model), ("LoRA", patched)):
        whole = one_step(patcher, full_load=True)
        part = one_step(patcher, lowvram_model_memory=half)
        found[f"partial {name}"] = [bool(torch.equal(whole[0], part[0])), whole[1:], part[1:]]


def one_step(patcher, **how):
    """A prediction, whether the model was streamed, and how many layers were on the device."""
    generator = torch.Generator().manual_seed(0)
    x, condition = torch.randn(1, 16, 3, 8, 8, generator=generator), torch.zeros(1, 17, 3, 8, 8)
    text = torch.randn(1, 256, 32, generator=generator)
    patcher.load(torch.device("cpu"), **how)
    resident = sum(hasattr(m, "comfy_patched_weights") for m in patcher.model.modules())
    out = patcher.model.apply_model(x, torch.tensor([0.5]), c_concat=condition, c_crossattn=text)
    streamed = patcher.model.model_lowvram
    patcher.detach()
    return out, streamed, resident


def lazily(plain):
    """Layers that are made without weights, as ComfyUI does where it loads dynamically."""
    import comfy.memory_management

    comfy.memory_management.aimdo_enabled = True
    loaded = probe.load(f"{V51}-InP")
    found["lazy"] = gap(
        ksampler(loaded.model, encode(loaded.clip, PROMPT, "blurred"), empty()), plain
    )
    comfy.memory_management.aimdo_enabled = False
    anew = [
        patcher.cached_patcher_init[0](*patcher.cached_patcher_init[1], disable_dynamic=True)
        for patcher in (loaded.model, loaded.clip.patcher, loaded.vae.patcher)
    ]
    found["made anew"] = [type(patcher.model).__name__ for patcher in anew]
    texts = encode(loaded.clip, PROMPT, "blurred")
    found["made anew gap"] = gap(ksampler(anew[0], texts, empty()), plain)


def folders():
    """A checkpoint and a VAE in a place that extra_model_paths.yaml names."""
    shutil.copytree(probe.paths.find_checkpoint(V51), elsewhere / "ckpt" / "mine")
    (elsewhere / "vaes").mkdir()
    shutil.copy(file_of(V51, "vae"), elsewhere / "vaes" / "away.safetensors")
    found["extra paths"] = [
        "mine" in probe.paths.list_checkpoints(),
        str(probe.paths.find_checkpoint("mine")) == str(elsewhere / "ckpt" / "mine"),
        "away.safetensors" in probe.paths.list_files("vae"),
    ]
    found["report"] = probe.load("mine").report
    plain = probe.load(V51)
    texts = encode(plain.clip, PROMPT, "blurred")
    stored = file_of("mine", "transformer")
    to_diffusers = probe.module("easyanimate_core.weights.files.key_maps_transformer").to_diffusers
    save_file({to_diffusers(k): v.clone() for k, v in load_file(stored).items()}, stored)
    other = probe.load("mine")
    found["diffusers layout"] = [
        gap(ksampler(other.model, texts, empty()), ksampler(plain.model, texts, empty())),
        other.report,
    ]
    broken = elsewhere / "ckpt" / "broken"
    shutil.copytree(elsewhere / "ckpt" / "mine", broken)
    stored = file_of("broken", "transformer")
    tensors = {"proj.bias": torch.zeros(3)}
    save_file(tensors, stored)
    found["error broken"] = probe.error(lambda: probe.load("broken"))
    found["error missing"] = probe.error(lambda: probe.paths.find_checkpoint("nowhere"))


def refusals(loaded, texts):
    """What does not fit is explained."""
    video, latent = clip_of(9, 64, 64, 1), empty()
    size = {"width": 64, "height": 64, "length": 9}
    inputs = {"positive": texts[0], "negative": texts[1], "vae": loaded.vae, **size}
    shown = probe.run("EasyAnimateImageToVideo", start_image=video[:1], **inputs)
    t2v, control = probe.load(V51).model, probe.load(f"{V51}-Control").model
    found["error head"] = probe.error(lambda: probe.sample(t2v, shown[:2], latent))
    found["error control"] = probe.error(lambda: probe.sample(control, shown[:2], latent))
    found["error nothing shown"] = probe.error(lambda: probe.sample(control, texts, latent))
    found["error size"] = probe.error(lambda: probe.sample(loaded.model, shown[:2], empty(13)))
    found["error no image"] = probe.error(lambda: probe.run("EasyAnimateImageToVideo", **inputs))
    found["error keyframes"] = probe.error(
        lambda: probe.run("EasyAnimateImageToVideo", keyframe_positions="1, x", **inputs)
    )
    found["error scheduler"] = probe.error(
        lambda: probe.sample(loaded.model, texts, latent, scheduler="DDIM")
    )
    found["error short"] = probe.error(
        lambda: probe.run("EasyAnimateVideoToVideo", vae=loaded.vae, video=video[:5], **size)
    )
    found["error empty video"] = probe.error(
        lambda: probe.sample(loaded.model, texts, latent, denoise=0.5)
    )
    found["error window"] = probe.error(
        lambda: probe.run(
            "EasyAnimateControl", control_video=video, start_percent=0.6, end_percent=0.4, **inputs
        )
    )
    found["error V5 text"] = probe.error(
        lambda: probe.sample(loaded.model, encode(probe.load(V5).clip, "a", "b"), latent)
    )
    odd = base / "models/loras/odd.safetensors"
    save_file({"lora_unet_nothing.lora_up.weight": torch.zeros(2, 2)}, odd)
    found["error LoRA"] = probe.error(
        lambda: probe.run("EasyAnimateLoadLora", model=loaded.model, lora="odd.safetensors")
    )


def in_the_core(latents, side):
    """Frames as a pipeline of the core decodes them."""
    folder = probe.paths.find_checkpoint(f"{V51}-InP")
    info = probe.module("easyanimate_core.weights.files").inspect_checkpoint(folder)
    vae = probe.module("easyanimate_core.weights.loading").load_vae(info, dtype=torch.float32)
    vae.config = replace(vae.config, scaling_factor=1.0)  # the node's latents are unscaled
    tiles = probe.module("easyanimate_core.models.vae").Tiles.of_side(side)
    silent = probe.module("easyanimate_core.progress").silent
    return probe.module("easyanimate_core.pipeline").decode_latents(vae, latents, tiles, silent)


def weight_files():
    """How often the files of what is loaded are mapped, were they all large ones."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    mapped = probe.module("easyanimate_core.files.mapped")
    usual, mapped.SMALL_BYTES = mapped.SMALL_BYTES, 0
    kept = [probe.load(f"{V51}-InP", dtype) for dtype in ("default", "default", "fp16")]
    kept.append(probe.run("EasyAnimateLoadVAE", vae_file="v51.safetensors", version="V5.1")[0])
    lora = probe.paths.find_file("loras", LORA)
    kept.append(bridge["lora"].with_lora(kept[0].model, lora, 1.0, partial=False))
    mapped.SMALL_BYTES = usual
    files = [file_of(f"{V51}-InP", part) for part in ("transformer", "vae", "text_encoder")]
    names = [line.partition("/")[2] for line in maps.read_text().splitlines()]
    found["maps"] = [names.count(os.path.realpath(file)[1:]) for file in (*files, lora)]


def decoding(loaded, latents):
    """Tiles, and what happens when memory runs out."""
    decode, network = bridge["vae"].decode_frames, loaded.vae.first_stage_model
    whole = decode(loaded.vae, latents, 0)
    found["decode core's VAEDecode"] = gap(whole, loaded.vae.decode(latents)[0])
    wide = torch.randn(1, 16, 2, 40, 48, generator=torch.Generator().manual_seed(0))
    found["decode tiles"] = [
        (decode(loaded.vae, wide, 256) - decode(loaded.vae, wide, 0)).abs().mean().item(),
        list(loaded.vae.decode_tiled(wide, 32, 32, 8, tile_t=4, overlap_t=1).shape),
    ]
    found["decode core's tiles"] = [
        gap(decode(loaded.vae, wide, side), in_the_core(wide, side)) for side in (256, 264)
    ]
    sides, original = [], type(network).decode

    def short_of_memory(self, z, **options):
        sides.append(max(z.shape[3:]) * 8)
        if sides[-1] > 256:
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return original(self, z, **options)

    type(network).decode = short_of_memory
    before = copy.deepcopy(wide)
    found["decode short of memory"] = gap(
        decode(loaded.vae, wide, None), decode(loaded.vae, wide, 256)
    )
    found["decode tried"] = sides[:6]
    found["decode latents kept"] = bool(torch.equal(before, wide))
    type(network).decode = original
    found["decode other VAE"] = probe.error(lambda: decode(object(), wide, None))


with torch.inference_mode():
    text_encoders()
    loaded = probe.load(f"{V51}-InP")
    texts = encode(loaded.clip, PROMPT, "blurred")
    plain = ksampler(loaded.model, texts, empty())
    dtypes(loaded, texts, plain)
    single_files(loaded, texts, plain)
    partial_loading()
    if hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        lazily(plain)
    folders()
    refusals(loaded, texts)
    weight_files()
    decoding(loaded, plain)
probe.done()
