"""Foreign patches, caches and schedules on this pack's models: `hooks.py CHECKPOINT`."""

import contextlib
import importlib
import logging
import sys
from functools import partial
from pathlib import Path

import comfy.controlnet
import comfy.patcher_extension
import comfy.sample
import torch

sys.path.append(str(Path(__file__).parent))
from comfy_extras import (
    nodes_context_windows,
    nodes_easycache,
    nodes_freelunch,
    nodes_lumina2,
    nodes_model_advanced,
)
from probing import Probe, defaults, empty, encode, execute, gap, ksampler

IS_FLOW = "V5.1" in sys.argv[1]
STEPS = 2

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
SAMPLERS = {
    "KSampler": lambda model, latent, steps=STEPS, **more: ksampler(
        model, texts, latent, steps=steps, **more
    ),
    "own": lambda model, latent, steps=STEPS, **more: probe.sample(
        model, texts, latent, steps=steps, **more
    ),
}


class Warnings(logging.Handler):
    """What the pack says in the log."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        if record.levelno >= logging.WARNING and "EasyAnimate:" in record.getMessage():
            self.texts.append(record.getMessage())


@contextlib.contextmanager
def warnings():
    handler = Warnings()
    logging.getLogger().addHandler(handler)
    yield handler.texts
    logging.getLogger().removeHandler(handler)


def windowed():
    """Windows of three latent frames, with the default of `causal_window_fix`, if there is one."""
    return execute(
        nodes_context_windows.ContextWindowsManualNode,
        model=model,
        context_length=3,
        context_overlap=1,
        dim=2,
        freenoise=True,
    )


def watched_cache(sample):
    """Skipped calls against the last computed call of the same window, and what ComfyUI gets."""
    cut = windowed()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    computed, last, off, skipped, lengths, denoised_off = [], {}, [], 0, set(), []
    velocity = {}

    def outside(executor, *args, **kwargs):
        nonlocal skipped
        x, before = args[0][:, :16].clone(), len(computed)
        out = executor(*args, **kwargs)
        window = args[-1].get("context_window")
        place = tuple(window.index_list) if window else ()
        lengths.add(x.shape[2])
        if len(computed) > before:
            last[place] = out - x
        else:
            skipped += 1
            off.append(gap(out - x, last[place]))
        velocity["now"] = out.clone()
        return out

    def inside(executor, *args, **kwargs):
        computed.append(True)
        return executor(*args, **kwargs)

    def around_model(apply, args):
        x, sigma = args["input"].clone(), args["timestep"]
        out = apply(args["input"], sigma, **args["c"])
        sampling = model.get_model_object("model_sampling")
        denoised_off.append(gap(out, sampling.calculate_denoised(sigma, velocity["now"], x)))
        return out

    cut.add_wrapper_with_key(kind, "outside", outside)
    cut = execute(
        nodes_easycache.EasyCacheNode,
        model=cut,
        reuse_threshold=3.0,
        start_percent=0.0,
        end_percent=1.0,
        verbose=True,
    )
    cut.add_wrapper_with_key(kind, "inside", inside)
    cut.set_model_unet_function_wrapper(around_model)
    out = sample(cut, empty(17))
    return {
        "skipped": skipped,
        "off": max(off, default=0.0),
        "denoised off": max(denoised_off),
        "lengths": sorted(lengths),
        "finite": bool(out.isfinite().all()),
    }


def by_hand(nag):
    """One step of KSampler, by the core's denoiser alone, with NAG's formula in its attention."""
    scale, alpha, tau = nag
    kernel = probe.module("easyanimate_core.models.transformer").scaled_dot_product
    denoiser = model.model.diffusion_model
    positive, negative = (text[0][0] for text in texts)
    x = comfy.sample.prepare_noise(empty()["samples"], 43)

    def attention(q, k, v):
        out = kernel(q, k, v).clone()
        minus, plus = out[:, positive.shape[1] :]
        far = scale * plus - (scale - 1) * minus
        grown = far.abs().sum(-1, keepdim=True) / plus.abs().sum(-1, keepdim=True)
        guided = alpha * far * grown.clamp_max(tau) / grown + (1 - alpha) * plus
        out[:, positive.shape[1] :] = guided
        return out

    core = super(type(denoiser), denoiser).forward
    minus, plus = core(
        x.repeat(2, 1, 1, 1, 1),
        torch.tensor([1000.0, 1000.0]),
        torch.cat([negative, positive]),
        attention=attention,
    )
    return model.model.process_latent_out(x - (minus + 6.0 * (plus - minus)))


def pair(change):
    """How far a change of the model moves both samplers, and what is in the log."""
    moved = {}
    for name, sample in SAMPLERS.items():
        with warnings() as said:
            moved[name] = gap(sample(change(model), empty()), base[name])
        moved[f"{name} said"] = said
    return moved


def with_patch(setter, patch):
    def change(model):
        model = model.clone()
        getattr(model, setter)(patch)
        return model

    return change


def node(module, name, **inputs):
    """A change by a node of `comfy_extras`, None where this ComfyUI has no such node."""
    try:
        made = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
    except ImportError:
        return None
    return lambda model: first(made, model=model, **inputs)


def first(made, **inputs):
    """The first output; newer nodes may return a tuple."""
    if not hasattr(made, "define_schema"):
        return execute(made, **inputs)
    out = made.execute(**{**defaults(made), **inputs})
    return out[0] if isinstance(out, tuple) else out.args[0]


class Control(comfy.controlnet.ControlBase):
    """A ControlNet that gives nothing."""

    def get_control(self, *_):
        return {"input": [], "output": []}

    def copy(self):
        return self


def doubles_values(q, k, v, pe, attn_mask, extra_options):
    """Flux's convention: by name, and a dictionary back."""
    assert (pe, attn_mask, k.shape) == (None, None, q.shape)
    told.append((extra_options["block_index"], extra_options["img_slice"], q.shape[2]))
    return {"v": v * 2}


def halves_output(out, extra_options):
    assert extra_options["block_type"] == "double"
    return out * 0.5


def halves_video(args):
    return {"img": args["img"] * 0.5, "txt": args["txt"]}


def longer_text(args):
    return {**args, "txt": torch.cat([args["txt"], args["txt"]], dim=1)}


def override(attention, *args, **kwargs):
    told.append(kwargs["transformer_options"]["block_index"])
    return attention(*args, **kwargs) * 0.5


def returns(make):
    """A patch that returns what `make` makes of its first argument."""
    return lambda first, *others: make(first) if others else None


def returns_tuple(q, k, v, **more):
    return (q, k, v, more)


def replace_first_block(patch):
    def change(model):
        model = model.clone()
        model.set_model_patch_replace(patch, "dit", "double_block", 0)
        return model

    return change


def put(key, value):
    def change(model):
        model = model.clone()
        model.model_options["transformer_options"][key] = value
        return model

    return change


def errors(changes):
    return {
        name: probe.error(lambda change=change: ksampler(change(model), texts, empty(), steps=1))
        for name, change in changes.items()
    }


with torch.inference_mode():
    loaded = probe.load(sys.argv[1])
    model = loaded.model
    texts = encode(loaded.clip, "a red fox runs", "blurred")
    base = {name: sample(model, empty()) for name, sample in SAMPLERS.items()}

    for name, sample in SAMPLERS.items():
        found[f"cache {name}"] = watched_cache(partial(sample, steps=8))
        lazy = windowed()
        lazy = execute(nodes_easycache.LazyCacheNode, model=lazy, reuse_threshold=3.0)
        found[f"lazy {name}"] = bool(sample(lazy, empty(17), steps=8).isfinite().all())
    cut = windowed()
    by_node = execute(nodes_easycache.EasyCacheNode, model=cut, reuse_threshold=3.0)
    found["widget"] = gap(
        SAMPLERS["own"](cut, empty(17), steps=8, step_cache=3.0),
        SAMPLERS["own"](by_node, empty(17), steps=8),
    )
    twice = execute(nodes_easycache.EasyCacheNode, model=model)
    found["two caches"] = probe.error(lambda: probe.sample(twice, texts, empty(), step_cache=0.1))
    batch = execute(nodes_easycache.EasyCacheNode, model=model, reuse_threshold=3.0)
    found["cache batch"] = bool(ksampler(batch, texts, empty(batch=2), steps=8).isfinite().all())
    with warnings() as said:
        frames = execute(
            nodes_context_windows.ContextWindowsManualNode, model=model, context_length=3
        )
        ksampler(frames, texts, empty(17), steps=1)
    found["windows of dim 0"] = said

    told = []
    for name, change in {
        "attn1_patch": with_patch("set_model_attn1_patch", doubles_values),
        "attn1_output_patch": with_patch("set_model_attn1_output_patch", halves_output),
        "double_block": put("patches", {"double_block": [halves_video]}),
        "post_input": put("patches", {"post_input": [longer_text]}),
        "optimized_attention_override": put("optimized_attention_override", override),
        "rope_options": node("nodes_rope", "ScaleROPE", scale_t=0.5, shift_x=1.0),
    }.items():
        found[name] = pair(change)
    found["told"] = [list(entry) for entry in told if isinstance(entry, tuple)][:3]
    found["told override"] = [entry for entry in told if isinstance(entry, int)][:4]
    unchanged = node("nodes_rope", "ScaleROPE")
    found["rope unchanged"] = gap(SAMPLERS["KSampler"](unchanged(model), empty()), base["KSampler"])

    nag = node("nodes_nag", "NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5)
    if nag:
        found["NAG"] = pair(nag)
        if IS_FLOW:
            found["NAG by hand"] = gap(
                ksampler(nag(model), texts, empty(), steps=1), by_hand((5.0, 0.5, 1.5))
            )
        both = ksampler(nag(model), texts, empty(batch=2), steps=STEPS)
        found["NAG batch"] = gap(both[:1], ksampler(nag(model), texts, empty(), steps=STEPS))
        alone = probe.module("nodes.bridge.planning").one_prompt_at_a_time(nag(model))
        with warnings() as said:
            ksampler(alone, texts, empty())
        found["NAG alone"] = said

    for name, change in {
        "PAG": node("nodes_pag", "PerturbedAttentionGuidance"),
        "SAG": node("nodes_sag", "SelfAttentionGuidance"),
        "HyperTile": node("nodes_hypertile", "HyperTile"),
        "ToMe": node("nodes_tomesd", "TomePatchModel"),
        "Downscale": node("nodes_model_downscale", "PatchModelAddDownscale"),
        "SLG": node("nodes_slg", "SkipLayerGuidanceDiT", start_percent=0.0, end_percent=1.0),
    }.items():
        found[name] = pair(change)
    with warnings() as said:
        for _ in range(2):
            ksampler(node("nodes_tomesd", "TomePatchModel")(model), texts, empty())
    found["two runs"] = said

    shown = [[[states, {**more, "control": Control()}]] for ((states, more),) in texts]
    with warnings() as said:
        ksampler(model, shown, empty(), steps=STEPS)
    found["ControlNet"] = said

    found["FreeU"] = probe.error(lambda: first(nodes_freelunch.FreeU, model=model))
    found["FreeU_V2"] = probe.error(lambda: first(nodes_freelunch.FreeU_V2, model=model))

    for name, limit in (("plain", 0.0), ("norm", 0.5)):
        renorm = execute(nodes_lumina2.RenormCFG, model=model, cfg_trunc=1e6, renorm_cfg=limit)
        own = model.clone()

        def combine(args, limit=limit):
            plus, minus = args["cond_denoised"], args["uncond_denoised"]
            mixed = minus + args["cond_scale"] * (plus - minus)
            if limit:
                mixed = mixed * min(1.0, limit * float(plus.norm() / mixed.norm()))
            return args["input"] - mixed

        own.set_model_sampler_cfg_function(combine)
        for sampler, sample in SAMPLERS.items():
            out = sample(renorm, empty())
            found[f"Renorm {name} {sampler}"] = [
                gap(out, sample(own, empty())),
                gap(out, base[sampler]),
            ]

    advanced = nodes_model_advanced
    schedules = {
        "Flux": lambda: execute(
            advanced.ModelSamplingFlux,
            model=model,
            max_shift=1.15,
            base_shift=0.5,
            width=64,
            height=64,
        ),
        "Discrete": lambda: execute(
            advanced.ModelSamplingDiscrete, model=model, sampling="v_prediction", zsnr=False
        ),
        "EDM": lambda: execute(
            advanced.ModelSamplingContinuousEDM,
            model=model,
            sampling="v_prediction",
            sigma_max=120.0,
            sigma_min=0.002,
        ),
        "ContinuousV": lambda: execute(
            advanced.ModelSamplingContinuousV,
            model=model,
            sampling="v_prediction",
            sigma_max=500.0,
            sigma_min=0.03,
        ),
        "StableCascade": lambda: execute(
            advanced.ModelSamplingStableCascade, model=model, shift=2.0
        ),
        "AuraFlow": lambda: execute(advanced.ModelSamplingAuraFlow, model=model, shift=1.73),
        "SD3": lambda: execute(advanced.ModelSamplingSD3, model=model, shift=3.0),
    }
    if hasattr(advanced, "ModelNoiseScale") and IS_FLOW:
        schedules["NoiseScale"] = lambda: execute(
            advanced.ModelNoiseScale, model=model, noise_scale=2.0
        )
        schedules["NoiseScale 1"] = lambda: execute(
            advanced.ModelNoiseScale, model=model, noise_scale=1.0
        )
    found["schedules"] = {
        name: probe.error(lambda make=make: probe.sample(make(), texts, empty(), steps=1))
        for name, make in schedules.items()
    }

    found["errors"] = errors(
        {
            "patch list": put("patches", {"attn1_output_patch": "x"}),
            "patch": put("patches", {"double_block": [None]}),
            "replacements": put("patches_replace", {"dit": {("double_block", 0): 3}}),
            "output none": with_patch("set_model_attn1_output_patch", returns(lambda _: None)),
            "output shape": with_patch(
                "set_model_attn1_output_patch", returns(lambda out: out[:, 1:])
            ),
            "attention tuple": with_patch("set_model_attn1_patch", returns_tuple),
            "block none": replace_first_block(returns(lambda _: None)),
            "block shape": replace_first_block(
                returns(lambda args: {"img": args["img"][:, 1:], "txt": args["txt"]})
            ),
            "block key": replace_first_block(returns(lambda args: args["attention_mask"])),
            "other width": put(
                "patches", {"double_block": [lambda args: {"img": args["img"] @ torch.ones(3, 3)}]}
            ),
        }
    )
probe.done()
