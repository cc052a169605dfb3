"""ComfyUI's samplers and the step cache make what the prompt asks of the small model.

`EASYANIMATE_MEANING_CLIPS=20 pytest -s tests/comfy/test_meaning.py` measures with more clips, and
EASYANIMATE_MEANING_STEPS=50 V5 with more steps.
"""

import os

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from easyanimate_core.models.specs import Head
from easyanimate_core.sampling import SCHEDULERS
from easyanimate_core.shapes.judge import HELD_OUT_SEED, Sample, judge
from easyanimate_core.shapes.scenes import caption, make_scene
from easyanimate_core.small_model import SIZE, few_steps_name, list_name
from tests.comfy.prompts import node, text_to_video
from tests.factories import V5, V5_1, needs_small_model

FRAMES, SIDE, _ = SIZE
CLIPS = int(os.environ.get("EASYANIMATE_MEANING_CLIPS", "4"))
#: So many of `CLIPS` may be wrong, for every way to sample.
MOST_WRONG = CLIPS // 4
STEPS = {V5_1: 16, V5: int(os.environ.get("EASYANIMATE_MEANING_STEPS", "20"))}
KSAMPLER = {
    V5_1: [
        ("euler", "normal"),
        ("dpmpp_2m", "sgm_uniform"),
        ("uni_pc", "simple"),
        ("euler_ancestral", "beta"),
        ("res_multistep", "kl_optimal"),
        ("heun", "simple"),
        ("dpmpp_sde", "normal"),
    ],
    # With simple, which has V5's own timesteps, these are DDIM, Euler and DPM++; Euler A has other
    # noise there, and ipndm_v is the nearest to PNDM.
    V5: [
        ("ddim", "simple"),
        ("euler", "simple"),
        ("euler_ancestral", "simple"),
        ("dpmpp_2m", "simple"),
        ("ipndm_v", "simple"),
    ],
}


#: With the LoRA for few steps, and cfg 1.
FEW_STEPS = {
    V5_1: ["own Flow", "euler normal", "euler simple", "euler sgm_uniform"],
    V5: ["own DDIM", "own Euler", "euler simple"],
}


def own(scheduler, step_cache=0.0):
    """The pack's sampler."""
    inputs = {"scheduler": scheduler, "guidance_rescale": 0.0, "step_cache": step_cache}
    return "EasyAnimateSampler", inputs


def ways(version):
    """(name, (class, its inputs)) of every way to sample a version."""
    for name, kind in SCHEDULERS.items():
        if kind == version.prediction_type:
            yield f"own {name}", own(name)
    yield "own, step cache", own("auto", step_cache=0.1)
    for name, scheduler in KSAMPLER[version]:
        inputs = {"sampler_name": name, "scheduler": scheduler}
        yield f"{name} {scheduler}", ("KSampler", inputs)


WAYS = {version: dict(ways(version)) for version in KSAMPLER}
EVERY_WAY = [
    pytest.param(version, name, marks=needs_small_model(version), id=f"{version.value} {name}")
    for version, names in WAYS.items()
    for name in names
]


EVERY_FEW = [
    pytest.param(version, name, marks=needs_small_model(version), id=f"{version.value} {name}")
    for version, names in FEW_STEPS.items()
    for name in names
]


def way_of(version, name):
    """Of KSampler any, not only those that are tried with many steps."""
    sampler, _, scheduler = name.partition(" ")
    inputs = {"sampler_name": sampler, "scheduler": scheduler}
    return WAYS[version].get(name, ("KSampler", inputs))


def prompt_for(text, version, way, seed, *, few=False):
    kind, inputs = way_of(version, way)
    checkpoint = list_name(Head.INPAINT, version)
    prompt = text_to_video(checkpoint, frames=FRAMES, side=SIDE, seed=seed)
    prompt["text"]["inputs"] |= {"positive": text, "negative": ""}
    kept = ("model", "positive", "negative", "latent_image", "seed", "denoise")
    shared = {name: prompt["sample"]["inputs"][name] for name in kept}
    steps, cfg = (4, 1.0) if few else (STEPS[version], 4.0)
    prompt["sample"] = node(kind, **shared, **inputs, steps=steps, cfg=cfg)
    if few:
        lora = few_steps_name(Head.INPAINT, version)
        given = {"lora": lora, "strength": 1.0, "allow_partial": False}
        prompt["lora"] = node("EasyAnimateLoadLora", model=shared["model"], **given)
        prompt["sample"]["inputs"]["model"] = ["lora", 0]
    return prompt


@pytest.mark.parametrize(("version", "way"), EVERY_WAY)
def test_prompts_are_followed_with_every_way_to_sample(comfy_server, version, way):
    check_followed(comfy_server, version, way)


@pytest.mark.parametrize(("version", "way"), EVERY_FEW)
def test_prompts_are_followed_in_four_steps_with_the_lora(comfy_server, version, way):
    check_followed(comfy_server, version, way, few=True)


def check_followed(comfy_server, version, way, *, few=False):
    right = dict.fromkeys(("colour", "shape", "motion"), 0)
    for index in range(CLIPS):
        scene = make_scene(
            HELD_OUT_SEED, index, kind="move", height=SIDE, width=SIDE, frames=FRAMES
        )
        prompt = prompt_for(caption(scene), version, way, 43 + index, few=few)
        history = comfy_server.run_prompt(prompt)
        frames = [pil_to_tensor(Image.open(file)) for file in sorted(history.files("frames"))]
        clip = torch.stack(frames).movedim(1, -1).float() / 255
        checks = judge(Sample("text", scene, clip)).checks
        right = {name: count + checks[name] for name, count in right.items()}
    print(
        f"\n{comfy_server.version} {version.value} {way}{', few steps' * few}: {right} of {CLIPS}"
    )
    assert min(right.values()) >= CLIPS - MOST_WRONG
