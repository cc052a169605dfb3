"""The step cache in ComfyUI's samplers: `saved_steps.py CHECKPOINT`."""

import logging
import sys
from pathlib import Path

import comfy.patcher_extension
import torch

sys.path.append(str(Path(__file__).parent))
from comfy_extras import nodes_context_windows, nodes_easycache
from comfy_extras import nodes_custom_sampler as custom
from probing import Probe, empty, encode, execute, gap, ksampler

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found


def watched(model):
    """A model, and the rows of every call of its denoiser."""
    rows = []

    def watch(executor, x, *args, **kwargs):
        rows.append(len(x))
        return executor(x, *args, **kwargs)

    model = model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "watch", watch)
    return model, rows


def saving(model, left_out=0.5, guidance_window=1.0):
    (out,) = probe.run(
        "EasyAnimateStepCache", model=model, left_out=left_out, guidance_window=guidance_window
    )
    return out


def with_sampler(name):
    """KSampler with another sampler."""

    def run(model, latent, **changes):
        return ksampler(model, texts, latent, sampler=name, steps=8, **changes)

    return run


class Notes(logging.Handler):
    """What the pack logs."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.said = []

    def emit(self, record):
        if record.getMessage().startswith("EasyAnimate:"):
            self.said.append(record.getMessage())


with torch.inference_mode():
    loaded = probe.load(sys.argv[1])
    model = loaded.model
    texts = encode(loaded.clip, "a red fox runs", "blurred")
    whole = ksampler(model, texts, empty(), steps=8)

    notes = Notes()
    logging.getLogger().addHandler(notes)
    logging.getLogger().setLevel(logging.INFO)
    counting, rows = watched(model)
    half = ksampler(saving(counting), texts, empty(), steps=8)
    found["half"] = [sum(rows), gap(half, whole), notes.said[-1:]]
    again = ksampler(saving(counting), texts, empty(), steps=8)
    found["again"] = gap(half, again)
    rows.clear()
    ksampler(saving(counting, 0.5, 0.25), texts, empty(), steps=8)
    found["window"] = [sum(rows), notes.said[-1:]]
    logging.getLogger().removeHandler(notes)

    found["off"] = gap(ksampler(saving(model, 0.0), texts, empty(), steps=8), whole)
    unguided = ksampler(model, texts, empty(), steps=8, cfg=1.0)
    found["no window"] = gap(ksampler(saving(model, 0.0, 0.0), texts, empty(), steps=8), unguided)

    found["samplers"] = {
        name: bool(with_sampler(name)(saving(model), empty()).isfinite().all())
        for name in ("euler_ancestral", "dpmpp_2m", "uni_pc", "dpm_2", "lcm", "deis")
    }

    own = probe.sample(model, texts, empty(), steps=8)
    by_node = probe.sample(saving(model), texts, empty(), steps=8)
    (by_widget,) = probe.run(
        "EasyAnimateSampler", model=model, positive=texts[0], negative=texts[1],
        latent_image=empty(), steps=8, speed="careful",
    )  # fmt: skip
    found["own"] = [gap(by_node, own), gap(by_node, half), gap(by_widget["samples"], by_node)]
    rescaled = probe.sample(saving(model, 0.5, 0.5), texts, empty(), steps=8, guidance_rescale=0.5)
    found["rescale and window"] = bool(rescaled.isfinite().all())

    frames = execute(
        nodes_context_windows.ContextWindowsManualNode, model=counting, context_length=3,
        context_overlap=1, dim=2,
    )  # fmt: skip
    rows.clear()
    ksampler(frames, texts, empty(17), steps=8)
    every = sum(rows)
    rows.clear()
    out = ksampler(saving(frames), texts, empty(17), steps=8)
    found["windows"] = [sum(rows), every, bool(out.isfinite().all())]

    patched = saving(model)
    first = ksampler(patched, texts, empty(), steps=8)
    ksampler(patched, texts, empty(17, height=96), steps=12)  # of another size and schedule
    found["after another size"] = gap(ksampler(patched, texts, empty(), steps=8), first)
    batch = ksampler(saving(model), texts, empty(batch=2), steps=8)
    found["batch"] = bool(batch.isfinite().all())

    easy = execute(nodes_easycache.EasyCacheNode, model=model)
    found["errors"] = {
        "twice": probe.error(lambda: saving(saving(model))),
        "after EasyCache": probe.error(lambda: saving(easy)),
        "before the widget": probe.error(
            lambda: probe.sample(saving(model), texts, empty(), step_cache=0.1)
        ),
    }
    guider = execute(
        custom.DualCFGGuider, model=saving(model, 0.5, 0.5), cond1=texts[0], cond2=texts[0],
        negative=texts[1], cfg_conds=4.0, cfg_cond2_negative=4.0,
    )  # fmt: skip
    found["errors"]["DualCFGGuider"] = probe.error(
        lambda: execute(
            custom.SamplerCustomAdvanced,
            noise=execute(custom.RandomNoise, noise_seed=43),
            guider=guider,
            sampler=execute(custom.KSamplerSelect, sampler_name="euler"),
            sigmas=execute(
                custom.BasicScheduler, model=model, scheduler="normal", steps=4, denoise=1.0
            ),
            latent_image=empty(),
        )
    )

probe.done()
