"""ComfyUI's samplers and the step cache make what the prompt asks of the small model.

`EASYANIMATE_MEANING_CLIPS=20 pytest -s tests/comfy/test_meaning.py` measures with more clips.
"""

import os

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from easyanimate_core import small_model
from easyanimate_core.models.specs import Head
from easyanimate_core.shapes.judge import HELD_OUT_SEED, Sample, judge
from easyanimate_core.shapes.scenes import caption, make_scene
from easyanimate_core.small_model import NAMES, SIZE
from tests.comfy.prompts import node, text_to_video

CHECKPOINT = next(name for name, head in NAMES.items() if head is Head.INPAINT)
FRAMES, SIDE, _ = SIZE
CLIPS = int(os.environ.get("EASYANIMATE_MEANING_CLIPS", "4"))
#: So many of `CLIPS` may be wrong, for every way to sample.
MOST_WRONG = CLIPS // 4
OWN = {"scheduler": "auto", "guidance_rescale": 0.0}
KSAMPLER = [
    ("euler", "normal"),
    ("dpmpp_2m", "sgm_uniform"),
    ("uni_pc", "simple"),
    ("euler_ancestral", "beta"),
    ("res_multistep", "kl_optimal"),
    ("heun", "simple"),
    ("dpmpp_sde", "normal"),
]
WAYS = {
    "own": ("EasyAnimateSampler", OWN | {"step_cache": 0.0}),
    "own, step cache": ("EasyAnimateSampler", OWN | {"step_cache": 0.1}),
} | {
    f"{name} {scheduler}": ("KSampler", {"sampler_name": name, "scheduler": scheduler})
    for name, scheduler in KSAMPLER
}

pytestmark = pytest.mark.skipif(
    not small_model.is_installed(),
    reason=f"the small model's weights are not in {small_model.FOLDER}",
)


def prompt_for(text, way, seed):
    kind, own = WAYS[way]
    prompt = text_to_video(CHECKPOINT, frames=FRAMES, side=SIDE, seed=seed)
    prompt["text"]["inputs"] |= {"positive": text, "negative": ""}
    kept = ("model", "positive", "negative", "latent_image", "seed", "denoise")
    inputs = {name: prompt["sample"]["inputs"][name] for name in kept}
    prompt["sample"] = node(kind, **inputs, **own, steps=16, cfg=4.0)
    return prompt


@pytest.mark.parametrize("way", WAYS)
def test_prompts_are_followed_with_every_way_to_sample(comfy_server, way):
    right = dict.fromkeys(("colour", "shape", "motion"), 0)
    for index in range(CLIPS):
        scene = make_scene(
            HELD_OUT_SEED, index, kind="move", height=SIDE, width=SIDE, frames=FRAMES
        )
        history = comfy_server.run_prompt(prompt_for(caption(scene), way, 43 + index))
        frames = [pil_to_tensor(Image.open(file)) for file in sorted(history.files("frames"))]
        clip = torch.stack(frames).movedim(1, -1).float() / 255
        checks = judge(Sample("text", scene, clip)).checks
        right = {name: count + checks[name] for name, count in right.items()}
    print(f"\n{comfy_server.version} {way}: {right} of {CLIPS}")
    assert min(right.values()) >= CLIPS - MOST_WRONG
