"""What ComfyUI offers to its own models, on this pack's: `comfy_tools.py CHECKPOINT`."""

import logging
import re
import sys
from pathlib import Path

import comfy.model_management
import comfy.patcher_extension
import torch
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parent))
from comfy_extras import (
    nodes_cfg,
    nodes_context_windows,
    nodes_easycache,
    nodes_model_advanced,
    nodes_model_merging,
    nodes_slg,
    nodes_torch_compile,
)
from comfy_extras import nodes_custom_sampler as custom
from probing import Probe, clip_of, empty, encode, execute, gap, ksampler

import nodes

CHECKPOINT = sys.argv[1]
IS_FLOW = "V5.1" in CHECKPOINT

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found


class SkippedSteps(logging.Handler):
    """What EasyCache and LazyCache log when a run ends: steps skipped and steps in all."""

    counts = None

    def emit(self, record):
        match = re.search(r"skipped (\d+)/(\d+) steps", record.getMessage())
        if match:
            self.counts = [int(match[1]), int(match[2])]


def skipped(model, texts):
    """The steps that a cache leaves out, and how far the result moves."""
    handler = SkippedSteps()
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    out = ksampler(model, texts, empty(), steps=20)
    logging.getLogger().removeHandler(handler)
    return handler.counts, bool(out.isfinite().all())


def seen_lengths(model, sample):
    """Latent frames and condition of every call of the denoiser."""
    seen = []

    def watch(executor, *args, **kwargs):
        seen.append(args[0])
        return executor(*args, **kwargs)

    model = model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "watch", watch)
    out = sample(model)
    return seen, out


with torch.inference_mode():
    loaded = probe.load(CHECKPOINT)
    model = loaded.model
    texts = encode(loaded.clip, "a red fox runs", "blurred")
    base = ksampler(model, texts, empty(), steps=20)
    own = probe.sample(model, texts, empty(), steps=20)

    def advanced(scheduler, sampler):
        """SamplerCustomAdvanced with its usual company."""
        guider = execute(
            custom.CFGGuider, model=model, positive=texts[0], negative=texts[1], cfg=6.0
        )
        sigmas = execute(
            custom.BasicScheduler, model=model, scheduler=scheduler, steps=20, denoise=1.0
        )
        chosen = execute(custom.KSamplerSelect, sampler_name=sampler)
        noise = execute(custom.RandomNoise, noise_seed=43)
        return execute(
            custom.SamplerCustomAdvanced,
            noise=noise,
            guider=guider,
            sampler=chosen,
            sigmas=sigmas,
            latent_image=empty(),
        )["samples"]

    found["SamplerCustomAdvanced"] = gap(advanced("normal", "euler"), base)
    found["SamplerCustomAdvanced uni_pc"] = bool(advanced("beta", "uni_pc").isfinite().all())

    for name, node in (
        ("EasyCache", nodes_easycache.EasyCacheNode),
        ("LazyCache", nodes_easycache.LazyCacheNode),
    ):
        cached = execute(node, model=model, reuse_threshold=1.0, verbose=True)
        found[name] = skipped(cached, texts)

    if IS_FLOW:
        # The scheduler normal ends a little elsewhere under ModelSamplingSD3, so the pack's own is
        # compared with the same shift on both sides.
        shifted = execute(
            nodes_model_advanced.ModelSamplingSD3, model=model, shift=2.718281828459045
        )
        found["ModelSamplingSD3 same shift"] = gap(
            probe.sample(shifted, texts, empty(), steps=20), own
        )
        shifted = execute(nodes_model_advanced.ModelSamplingSD3, model=model, shift=9.0)
        found["ModelSamplingSD3"] = gap(ksampler(shifted, texts, empty(), steps=20), base)
        found["ModelSamplingSD3 own"] = gap(probe.sample(shifted, texts, empty(), steps=20), own)

    zero_star = execute(nodes_cfg.CFGZeroStar, model=model)
    found["CFGZeroStar"] = gap(ksampler(zero_star, texts, empty(), steps=20), base)
    found["CFGZeroStar own"] = gap(probe.sample(zero_star, texts, empty(), steps=20), own)
    rescaled = execute(nodes_model_advanced.RescaleCFG, model=model, multiplier=0.7)
    found["RescaleCFG"] = gap(ksampler(rescaled, texts, empty(), steps=20), base)
    found["RescaleCFG conflict"] = probe.error(
        lambda: probe.sample(rescaled, texts, empty(), guidance_rescale=0.5)
    )
    for layers in ("1", "77"):
        skipping = execute(
            nodes_slg.SkipLayerGuidanceDiT,
            model=model,
            double_layers=layers,
            single_layers="",
            start_percent=0.0,
            end_percent=1.0,
        )
        found[f"SkipLayerGuidanceDiT {layers}"] = gap(
            ksampler(skipping, texts, empty(), steps=20), base
        )

    kept = torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    masked = execute(nodes.SetLatentNoiseMask, samples={"samples": kept}, mask=mask[:, 0])
    for name, out in (
        ("KSampler", ksampler(model, texts, masked)),
        ("own", probe.sample(model, texts, masked)),
    ):
        found[f"noise mask {name} kept"] = gap(out[..., :4], kept[..., :4])
        found[f"noise mask {name} new"] = gap(out[..., 4:], kept[..., 4:])

    # 65 frames are 17 latent frames, seen in windows of 5; the condition is cut with them.
    video = clip_of(1, 64, 64, 1)
    shown = probe.run(
        "EasyAnimateImageToVideo",
        positive=texts[0],
        negative=texts[1],
        vae=loaded.vae,
        start_image=video,
        width=64,
        height=64,
        length=65,
    )
    windows = execute(
        nodes_context_windows.ContextWindowsManualNode,
        model=model,
        context_length=5,
        context_overlap=2,
        context_schedule="standard_static",
        dim=2,
        freenoise=True,
    )
    for name, sample in (
        ("KSampler", lambda m: ksampler(m, shown[:2], shown[2], steps=2)),
        ("own", lambda m: probe.sample(m, shown[:2], shown[2], steps=2)),
    ):
        seen, out = seen_lengths(windows, sample)
        # Only the first latent frame is known: the mask channel is above 0 there alone.
        known = sorted({tuple((x[0, 16].amax(dim=(1, 2)) > 0.1).int().tolist()) for x in seen})
        found[f"windows {name}"] = [list(out.shape), sorted({x.shape[2] for x in seen}), known]

    second = probe.load(CHECKPOINT)
    modules = [name for name, _ in model.model.diffusion_model.named_modules()]
    changed = second.model.clone()
    lora = probe.module("nodes.bridge.lora")
    file = probe.paths.find_file("loras", "EasyAnimateV5.1-tiny-lora.safetensors")
    changed, report = lora.with_lora(changed, file, 1.0, partial=False)
    found["LoRA report"] = report
    with_lora = ksampler(changed, texts, empty())
    plain = ksampler(model, texts, empty())
    found["LoRA"] = gap(with_lora, plain)
    own_lora = probe.sample(changed, texts, empty())
    found["LoRA own sampler"] = [
        gap(own_lora, with_lora),
        gap(own_lora, probe.sample(model, texts, empty())),
    ]
    tensors = load_file(file)
    for name, kept_as in (("kohya", "lora_unet_"), ("peft", "diffusion_model.")):
        renamed = {}
        for key, tensor in tensors.items():
            module, rest = (
                probe.module("easyanimate_core.weights.lora").match_lora([key], modules).names[key]
            )
            flat = module.replace(".", "_") if name == "kohya" else module
            renamed[f"{kept_as}{flat}.{rest}"] = tensor
        save_file(renamed, file.parent / f"{name}.safetensors")
        by_core = execute(
            nodes.LoraLoaderModelOnly,
            model=model,
            lora_name=f"{name}.safetensors",
            strength_model=1.0,
        )
        found[f"LoraLoaderModelOnly {name}"] = gap(ksampler(by_core, texts, empty()), with_lora)
    convert = probe.module("easyanimate_core.convert")
    convert.convert(file, file.parent / "converted.safetensors", convert.Conversion(force=True))
    for name in (file.name, "converted.safetensors"):
        by_core = execute(
            nodes.LoraLoaderModelOnly, model=model, lora_name=name, strength_model=1.0
        )
        found[f"core {name}"] = gap(ksampler(by_core, texts, empty()), with_lora)
    converted, _ = lora.with_lora(model, file.parent / "converted.safetensors", 1.0, partial=False)
    found["converted"] = gap(ksampler(converted, texts, empty()), with_lora)
    merge = nodes_model_merging.ModelMergeSimple
    for ratio, wanted in ((1.0, plain), (0.0, with_lora)):
        merged = execute(merge, model1=model, model2=changed, ratio=ratio)
        found[f"merge {ratio}"] = gap(ksampler(merged, texts, empty()), wanted)

    finished = []

    def watch_block(index):
        def around(args, extra):
            out = extra["original_block"](args)
            finished.append(index)
            comfy.model_management.interrupt_current_processing(True)
            return out

        return around

    cancelled = model.clone()
    for index in range(3):
        cancelled.set_model_patch_replace(watch_block(index), "dit", "double_block", index)
    error = probe.error(lambda: probe.sample(cancelled, texts, empty()))
    comfy.model_management.interrupt_current_processing(False)
    found["cancelled"] = [error[0], finished]

    compiled = execute(nodes_torch_compile.TorchCompileModel, model=model, backend="inductor")
    found["compiled"] = gap(
        ksampler(compiled, texts, empty(), steps=2), ksampler(model, texts, empty(), steps=2)
    )
probe.done()
