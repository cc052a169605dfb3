"""Workflows of the original pack open and run, and give what the workflows of this pack give."""

import copy
import json
import shutil
from pathlib import Path

import pytest

from tests.comfy.findings import run_script
from tests.comfy.original_workflows import (
    CLIP,
    NEGATIVE,
    PICTURE,
    POSES,
    POSITIVE,
    TRACKS,
    WORKFLOWS,
)
from tests.comfy.prompts import LORA, node
from tests.comfy.server import PromptError

#: The files' checkpoints, and tiny ones of the same head.
SAME_HEAD = {
    "EasyAnimateV5-12b-zh-InP": "EasyAnimateV5-7b-zh-InP",
    "EasyAnimateV5.1-12b-zh-InP": "EasyAnimateV5.1-7b-zh-InP",
    "EasyAnimateV5.1-12b-zh-Control": "EasyAnimateV5.1-7b-zh-Control",
    "EasyAnimateV5.1-12b-zh-Control-Camera": "EasyAnimateV5.1-7b-zh-Control-Camera",
}
LENGTH, STEPS = 5, 4
WIDGETS = """() => Object.fromEntries(app.graph._nodes.map((node) => [
  node.id, (node.widgets ?? []).filter(({ name }) => name !== 'note').map(({ value }) => value),
]))"""

every_workflow = pytest.mark.parametrize("name", WORKFLOWS)


@pytest.fixture(scope="module")
def checkpoints(comfy_server):
    """The files' checkpoints are there while this module runs."""
    models = comfy_server.base / "models" / "EasyAnimate"
    for name, like in SAME_HEAD.items():
        shutil.copytree(models / like, models / name)
    yield
    for name in SAME_HEAD:
        shutil.rmtree(models / name)


@pytest.fixture(scope="module")
def frontend(checkpoints, browser_page):  # noqa: ARG001  (it asks for the lists when it loads)
    browser_page.reload()
    return browser_page


def sampler_of(prompt):
    """The id of a prompt's old sampler."""
    (found,) = (id_ for id_, entry in prompt.items() if entry["class_type"].endswith("Sampler"))
    return found


def small(prompt):
    """A prompt with a size that a CPU gets done in a moment; only its frames are saved."""
    prompt = {k: v for k, v in prompt.items() if v["class_type"] != "VHS_VideoCombine"}
    sampler = sampler_of(prompt)
    changed = {"video_length": LENGTH, "steps": STEPS}
    if "width" in prompt[sampler]["inputs"]:
        changed |= {"width": 96, "height": 64}
    prompt[sampler]["inputs"] |= changed
    prompt["frames"] = node("SaveImage", images=[sampler, 0], filename_prefix="old")
    return prompt


def modern(name):
    """The same video by the nodes of this pack."""
    values = [n for n in WORKFLOWS[name]["nodes"] if n["type"].endswith("Sampler")][0]
    (loader,) = (n for n in WORKFLOWS[name]["nodes"] if n["type"] == "LoadEasyAnimateModel")
    version = name.split("_")[0]
    cfg = 7 if name == "v5_v2v" else 6
    size = {"width": 672, "height": 384, "length": LENGTH, "batch_size": 1}
    on = {"positive": ["text", 0], "negative": ["text", 1], "vae": ["load", 2]}
    rate = {"source_fps": 8.0, "if_short": "refuse"}
    clip = {**vhs_clip(POSES if "control" in name else CLIP, 0 if "control" in name else 8)}
    prompt = {
        "load": node(
            "EasyAnimateLoadCheckpoint",
            checkpoint=loader["widgets_values"][0],
            weight_dtype="scaled fp8 (e4m3)",
            text_device="default",
        ),
        "text": node(
            "EasyAnimateTextEncode", clip=["load", 1], positive=POSITIVE, negative=NEGATIVE
        ),
        "picture": node("LoadImage", image=PICTURE),
    }
    positive, negative, latent = ["know", 0], ["know", 1], ["know", 2]
    square = {**size, "width": 512, "height": 512}
    if name.endswith("t2v"):
        prompt["know"] = node(
            "EasyAnimateEmptyLatentVideo", **{**size, "width": 96, "height": 64}
        )
        positive, negative, latent = ["text", 0], ["text", 1], ["know", 0]
    elif name.endswith("i2v"):
        prompt["know"] = node(
            "EasyAnimateImageToVideo",
            **on,
            **square,
            reference_noise=0.0563,
            noise_seed=43,
            keyframe_positions="",
            start_image=["picture", 0],
        )
    elif name.endswith("control"):
        prompt["clip"] = clip
        prompt["know"] = node(
            "EasyAnimateControl",
            **on,
            **{**size, **closest(POSES)},
            control_video=["clip", 0],
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
            **rate,
        )
    elif name.endswith("camera"):
        path = {"speed": 1.0, "easing": "linear", "length": 49, "orbit_distance": 4.0}
        path |= {"original_timing": True}
        prompt["up"] = node("EasyAnimateCameraMove", move="Pan Up", mode="join", **path)
        prompt["left"] = node(
            "EasyAnimateCameraMove",
            move="Pan Left",
            mode="combine",
            camera_path=["up", 0],
            **path,
        )
        prompt["know"] = node(
            "EasyAnimateCamera",
            **on,
            **square,
            move="Static",
            second_move="none",
            speed=1.0,
            poses="",
            camera_path=["left", 0],
            reference_image=["picture", 0],
        )
    elif name.endswith("trajectory"):
        prompt["know"] = node(
            "EasyAnimateTrajectory",
            **on,
            **square,
            tracks=f"[{', '.join(TRACKS)}]",
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
            reference_image=["picture", 0],
        )
    else:
        prompt["clip"] = clip
        prompt["know"] = node(
            "EasyAnimateVideoToVideo",
            vae=["load", 2],
            video=["clip", 0],
            **{**size, **closest(CLIP)},
            **rate,
            strict=False,
        )
        positive, negative, latent = ["text", 0], ["text", 1], ["know", 0]
    scheduler = "Flow" if version == "v5.1" else "DDIM"
    cached = values["widgets_values"]
    cache = cached[cached.index(scheduler) + 1] if scheduler != cached[-1] else 0.1
    prompt["sample"] = node(
        "EasyAnimateSampler",
        model=["load", 0],
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=43,
        steps=STEPS,
        cfg=cfg,
        scheduler=scheduler,
        denoise=0.7 if name.endswith("v2v") else 1.0,
        guidance_rescale=0.0,
        step_cache=cache,
    )
    prompt["decode"] = node(
        "EasyAnimateDecode", vae=["load", 2], samples=["sample", 0], tiles="auto"
    )
    prompt["frames"] = node("SaveImage", images=["decode", 0], filename_prefix="new")
    return prompt


def closest(name):  # noqa: ARG001
    """The size of the original's table for the clips of these tests, 272 x 640... by their shape."""
    return {"width": 736, "height": 352}


def vhs_clip(name, rate):
    widgets = {"custom_width": 0, "custom_height": 0, "frame_load_cap": 0}
    widgets |= {"skip_first_frames": 0, "select_every_nth": 1}
    return node("VHS_LoadVideo", video=name, force_rate=rate, **widgets)


@pytest.mark.newest_frontend
@pytest.mark.parametrize("drawn", ["canvas", "vue"])
@every_workflow
def test_it_opens_with_the_values_of_the_file(frontend, name, drawn):
    workflow = copy.deepcopy(WORKFLOWS[name])
    frontend.set_setting("Comfy.VueNodes.Enabled", drawn == "vue")
    try:
        report = frontend.open_workflow(workflow)
        shown = frontend.page.evaluate(WIDGETS)
    finally:
        frontend.set_setting("Comfy.VueNodes.Enabled", False)
    assert report.faults == {}
    for entry in WORKFLOWS[name]["nodes"]:
        if not entry["type"].startswith("VHS"):
            values = shown[str(entry["id"])]
            written = entry["widgets_values"][: len(values)]
            assert values[: len(written)] == written, entry["type"]


@every_workflow
def test_it_gives_what_the_new_workflow_gives(frontend, comfy_server, name):
    frontend.open_workflow(copy.deepcopy(WORKFLOWS[name]))
    old = comfy_server.run_prompt(small(frontend.graph_to_prompt()))
    new = comfy_server.run_prompt(modern(name))
    ours, theirs = old.files("frames"), new.files("frames")
    assert len(ours) == len(theirs) == LENGTH
    for one, other in zip(ours, theirs, strict=True):
        assert pixels(one) == pixels(other)


def pixels(file):
    from PIL import Image

    with Image.open(file) as picture:
        return picture.size, picture.tobytes()
