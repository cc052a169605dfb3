"""Workflows of the original pack open and run, and give what the workflows of this pack give."""

import copy
import shutil

import numpy as np
import pytest
from PIL import Image

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
from tests.comfy.test_notes import NOTES

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

WIDGETS_OF_SMALL = {"video_length": 7, "steps": 1, "prompt": "a long dog " * 150}
RUN_SMALL = """async (values) => {
  for (const node of app.graph._nodes)
    for (const widget of node.widgets ?? [])
      if (widget.name in values) widget.value = values[widget.name]
  await app.queuePrompt(0)
}"""

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


def vhs_clip(name, rate):
    widgets = {"custom_width": 0, "custom_height": 0, "frame_load_cap": 0}
    widgets |= {"skip_first_frames": 0, "select_every_nth": 1}
    return node("VHS_LoadVideo", video=name, force_rate=rate, **widgets)


def move(**widgets):
    path = {"speed": 1.0, "easing": "linear", "length": 49, "orbit_distance": 4.0}
    return node("EasyAnimateCameraMove", original_timing=True, **path, **widgets)


WHOLE = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
FITTED = {"source_fps": 8.0, "if_short": "refuse", "strict": False, "vae": ["load", 2]}
SQUARE, WIDE = {"width": 512, "height": 512}, {"width": 768, "height": 320}  # of picture and clips
STILL = {"move": "Static", "second_move": "none", "speed": 1.0, "poses": ""}
#: The conditioning node of each mode by its class_type and inputs, and the nodes before it.
CONDITIONED = {
    "t2v": ({"class_type": "EasyAnimateEmptyLatentVideo", "width": 96, "height": 64}, {}),
    "i2v": (
        {
            "class_type": "EasyAnimateImageToVideo",
            "vae": ["load", 2],
            **SQUARE,
            "reference_noise": 0.0563,
            "noise_seed": 43,
            "keyframe_positions": "",
            "start_image": ["picture", 0],
            "strict": False,
            "keep_known": False,
        },
        {},
    ),
    "v2v": (
        {"class_type": "EasyAnimateVideoToVideo", **WIDE, **FITTED, "video": ["clip", 0]},
        {"clip": vhs_clip(CLIP, 8)},
    ),
    "v2v_control": (
        {
            "class_type": "EasyAnimateControl",
            **WIDE,
            **FITTED,
            **WHOLE,
            "control_video": ["clip", 0],
        },
        {"clip": vhs_clip(POSES, 0)},
    ),
    "control_camera": (
        {
            "class_type": "EasyAnimateCamera",
            "vae": ["load", 2],
            **SQUARE,
            **STILL,
            "camera_path": ["left", 0],
            "reference_image": ["picture", 0],
            "strict": False,
        },
        {
            "up": move(move="Pan Up", mode="join"),
            "left": move(move="Pan Left", mode="combine", camera_path=["up", 0]),
        },
    ),
    "control_trajectory": (
        {
            "class_type": "EasyAnimateTrajectory",
            "vae": ["load", 2],
            **SQUARE,
            **WHOLE,
            "tracks": f"[{', '.join(TRACKS)}]",
            "reference_image": ["picture", 0],
            "strict": False,
        },
        {},
    ),
}
#: Thresholds of the step cache that are not the widget's default.
CACHES = dict.fromkeys(
    ("v5.1_control_camera", "v5.1_control_trajectory", "v5.1_i2v", "v5.1_t2v"), 0.08
)
CACHES |= dict.fromkeys(("v5_v2v_control", "v5.1_v2v_control"), 0.08)


def modern(name):
    """The same video by the nodes of this pack."""
    (loader,) = (n for n in WORKFLOWS[name]["nodes"] if n["type"] == "LoadEasyAnimateModel")
    version, _, mode = name.partition("_")
    conditioned, more = CONDITIONED[mode]
    # Text to video and video to video change the latent alone.
    outputs = [["text", 0], ["text", 1], ["know", 0]]
    if mode not in ("t2v", "v2v"):
        outputs = [["know", slot] for slot in range(3)]
        conditioned = {**conditioned, "positive": ["text", 0], "negative": ["text", 1]}
    positive, negative, latent = outputs
    kind, conditioned = conditioned["class_type"], {**conditioned}
    del conditioned["class_type"]
    return {
        **more,
        "picture": node("LoadImage", image=PICTURE),
        "load": node(
            "EasyAnimateLoadCheckpoint",
            checkpoint=loader["widgets_values"][0],
            weight_dtype="scaled fp8 (e4m3)",
            text_device="default",
        ),
        "text": node(
            "EasyAnimateTextEncode", clip=["load", 1], positive=POSITIVE, negative=NEGATIVE
        ),
        "know": node(kind, length=LENGTH, batch_size=1, **conditioned),
        "sample": node(
            "EasyAnimateSampler",
            model=["load", 0],
            positive=positive,
            negative=negative,
            latent_image=latent,
            seed=43,
            steps=STEPS,
            cfg=7 if name == "v5_v2v" else 6,
            scheduler="Flow" if version == "v5.1" else "DDIM",
            denoise=0.7 if mode == "v2v" else 1.0,
            guidance_rescale=0.0,
            step_cache=CACHES.get(name, 0.1),
        ),
        "decode": node("EasyAnimateDecode", vae=["load", 2], samples=["sample", 0], tiles="auto"),
        "frames": node("SaveImage", images=["decode", 0], filename_prefix="new"),
    }


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


@pytest.mark.newest_frontend
def test_a_workflow_from_before_teacache_has_its_default(frontend):
    """Those of V5 have no value there; those of V5.1 have the camera's empty text."""
    for values in ([], [""]):
        workflow = copy.deepcopy(WORKFLOWS["v5.1_v2v_control"])
        (sampler,) = (n for n in workflow["nodes"] if n["type"].endswith("Sampler"))
        sampler["widgets_values"] = [*sampler["widgets_values"][:8], *values]
        frontend.open_workflow(workflow)
        found = frontend.graph_to_prompt()[str(sampler["id"])]["inputs"]
        assert (found["teacache_threshold"], found["enable_teacache"]) == (0.1, True), values


@pytest.mark.newest_frontend
def test_the_node_says_what_the_nodes_that_it_expands_into_say(frontend, comfy_server, tmp_path):
    """After its own sentences. With another seed no text is encoded again, which says nothing."""
    frontend.open_workflow(copy.deepcopy(WORKFLOWS["v5.1_i2v"]))
    for seed in (44, 45):
        frontend.page.evaluate(RUN_SMALL, {**WIDGETS_OF_SMALL, "seed": seed})
        frontend.page.wait_for_timeout(500)
        comfy_server.wait_until_idle(180)
        frontend.page.wait_for_timeout(1000)
        frontend.page.screenshot(path=tmp_path / f"{seed}.png")
        notes = frontend.page.evaluate(NOTES)
        lines = notes["EasyAnimateV5_I2VSampler"].splitlines()
        assert lines[:2] == [
            "video_length is 7; 5 frames are made: 4n + 1, at most those of the source.",
            "The size is 512 x 512, the closest to the shape of the image.",
        ]
        cut_off = [line.split(" is too long")[0] for line in lines[2:]]
        assert cut_off == (["The positive prompt", "The negative prompt"] if seed == 44 else [])
    assert "InP head" in notes["LoadEasyAnimateModel"]
    assert "config is not used" in notes["LoadEasyAnimateModel"]


@pytest.mark.campaign
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
    with Image.open(file) as picture:
        return picture.size, picture.tobytes()


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "original.py")


def test_another_pack_keeps_its_nodes_in_either_order(found):
    owners = {case: set(by_id.values()) for case, by_id in found["owners"].items()}
    assert owners["alone"] == owners["broken before"] == owners["broken after"] == {"ours"}
    assert owners["before"] == owners["after"] == {"theirs"}
    for case in ("helpers before", "helpers after"):
        theirs = {name for name, owner in found["owners"][case].items() if owner == "theirs"}
        assert theirs == set(found["helpers"])


def test_the_size_is_the_original_s(found):
    sizes = [[384, 672], [1008, 576], [1024, 1024], [320, 768], [896, 1008]]
    sizes += [[352, 672], [704, 352], [256, 1024], [1024, 256]]
    assert found["sizes"] == sizes


def test_camera_nodes_give_the_original_s_poses(found):
    """Each step is a part of the move that reaches its end one pose later; a pan is 1.5 long."""
    across = [[row[3] for row in pose] for pose in found["basic"]]
    assert across == [[0.75 * step, 0, 0] for step in range(4)]
    last = found["both"][-1]
    assert [row[3] for row in last] == [0, 1.125, -2.25]
    assert last[1][0] == pytest.approx(2**0.5 / 2)  # three quarters of 60 degrees
    assert found["joined"] == [[8, 3, 4], 0]
    assert found["joint"] < 1e-12
    assert found["text"] == [4, 4, 0]


def test_tracks_and_overlays(found):
    assert found["tracks"] == [[3, 64, 96, 3], [3, 64, 96, 3], True]
    assert found["maximum"] == [[3, 64, 96, 3], True]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("bad poses", "Camera pose 0 has 3 numbers"),
        ("no poses", "The text of camera_conditions is not valid JSON"),
        ("foreign", "is a dict of another pack"),
    ],
)
def test_what_is_no_camera_or_model_is_refused(found, case, message):
    kind, text = found[case]
    assert kind == "InputError"
    assert message in text


def old_prompt(kind, *, checkpoint="EasyAnimateV5.1-7b-zh-InP", **inputs):
    """A small prompt with one of the old samplers."""
    loader = {"GPU_memory_mode": "model_cpu_offload", "model_type": "Inpaint", "precision": "bf16"}
    config = "easyanimate_video_v5.1_magvit_qwen.yaml"
    common = {"video_length": LENGTH, "seed": 43, "steps": 2, "cfg": 6.0, "scheduler": "Flow"}
    common |= {"teacache_threshold": 0.1, "enable_teacache": False}
    if kind == "T2V":
        common |= {"width": 96, "height": 64, "is_image": False}
    else:
        common |= {"base_resolution": 512}
    return {
        "model": node("LoadEasyAnimateModel", model=checkpoint, config=config, **loader),
        "positive": node("EasyAnimate_TextBox", prompt=POSITIVE),
        "negative": node("EasyAnimate_TextBox", prompt=NEGATIVE),
        "old": node(
            f"EasyAnimateV5_{kind}Sampler",
            easyanimate_model=["model", 0],
            prompt=["positive", 0],
            negative_prompt=["negative", 0],
            **{**common, **inputs},
        ),
        "frames": node("SaveImage", images=["old", 0], filename_prefix="old"),
    }


REFUSED = {
    "absent": ({"checkpoint": "EasyAnimateV5.1-12b-zh"}, "There is no checkpoint folder"),
    "older": ({"checkpoint": "EasyAnimateV4-XL-2-InP"}, "is older than V5"),
    "words": ({"steps": "many"}, "Failed to convert an input value to a INT value"),
    "too many": ({"video_length": 144}, "bigger than max"),
    "unknown": ({"scheduler": "LCM"}, "not in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_that_cannot_be_is_refused_before_anything_runs(comfy_server, case):
    changed, message = REFUSED[case]
    with pytest.raises(PromptError, match="refused") as refused:
        comfy_server.run_prompt(old_prompt("T2V", **changed))
    assert message in str(refused.value)


V51 = "EasyAnimateV5.1-7b-zh"
FAILS = {
    "a scheduler of V5": ("T2V", {"scheduler": "DDIM"}, "Use Flow."),
    "no image": ("I2V", {}, "neither a start_img nor an end_img"),
    "no video": ("V2V", {"denoise_strength": 0.7}, "needs validation_video"),
    "a head without images": ("I2V", {"checkpoint": V51}, "this sampler needs InP"),
    "a control model": ("T2V", {"checkpoint": f"{V51}-Control"}, "needs T2V or InP"),
    "no camera": (
        "V2V",
        {"checkpoint": f"{V51}-Control-Camera", "denoise_strength": 1.0},
        "needs camera_conditions",
    ),
}


@pytest.mark.parametrize("case", FAILS)
def test_what_does_not_fit_the_model_fails_at_the_old_node(comfy_server, case):
    kind, inputs, message = FAILS[case]
    with pytest.raises(PromptError) as failed:
        comfy_server.run_prompt(old_prompt(kind, **inputs))
    assert message in failed.value.message
    assert failed.value.node_id == "old"


def test_numbers_as_text_and_a_config_with_a_path_are_taken(comfy_server):
    prompt = old_prompt("T2V", steps="2", cfg="6", is_image=True)
    prompt["model"]["inputs"]["config"] = "config/easyanimate_video_v5.1_magvit_qwen.yaml"
    assert len(comfy_server.run_prompt(prompt).files("frames")) == 1


def test_a_text_of_another_node_is_a_prompt(comfy_server):
    """The original refused it: STRING is not STRING_PROMPT."""
    prompt = old_prompt("T2V")
    plain = comfy_server.run_prompt(prompt).files("frames")
    prompt["positive"] = node("PrimitiveStringMultiline", value=POSITIVE)
    assert pixels(comfy_server.run_prompt(prompt).files("frames")[0]) == pixels(plain[0])


def test_a_node_of_another_pack_may_stand_between_model_and_sampler(comfy_server):
    prompt = old_prompt("T2V")
    plain = comfy_server.run_prompt(prompt).files("frames")
    prompt["between"] = node("ProbePassModel", model=["model", 0])
    prompt["old"]["inputs"]["easyanimate_model"] = ["between", 0]
    assert pixels(comfy_server.run_prompt(prompt).files("frames")[0]) == pixels(plain[0])


def test_the_loader_feeds_the_new_nodes_too(comfy_server):
    prompt = old_prompt("T2V")
    plain = comfy_server.run_prompt(prompt).files("frames")
    prompt["text"] = node(
        "EasyAnimateTextEncode", clip=["model", 2], positive=POSITIVE, negative=NEGATIVE
    )
    size = {"width": 96, "height": 64, "length": LENGTH, "batch_size": 1}
    prompt["empty"] = node("EasyAnimateEmptyLatentVideo", **size)
    prompt["sample"] = node(
        "KSampler",
        model=["model", 1],
        positive=["text", 0],
        negative=["text", 1],
        latent_image=["empty", 0],
        sampler_name="euler",
        scheduler="normal",
        seed=43,
        steps=2,
        cfg=6.0,
        denoise=1.0,
    )
    prompt["decode"] = node("VAEDecode", vae=["model", 3], samples=["sample", 0])
    prompt["frames"]["inputs"]["images"] = ["decode", 0]
    made = comfy_server.run_prompt(prompt).files("frames")
    assert len(made) == len(plain)
    assert np.abs(array(made[0]) - array(plain[0])).max() <= 1


def array(file):
    with Image.open(file) as picture:
        return np.asarray(picture).astype(int)


def test_a_lora_changes_the_model_and_a_new_seed_encodes_no_text_again(comfy_server):
    prompt = old_prompt("T2V")
    plain = comfy_server.run_prompt(prompt).files("frames")
    widgets = {"lora_name": LORA, "strength_model": 1.0, "lora_cache": True}
    prompt["lora"] = node("LoadEasyAnimateLora", easyanimate_model=["model", 0], **widgets)
    prompt["old"]["inputs"]["easyanimate_model"] = ["lora", 0]
    first = comfy_server.run_prompt(prompt)
    assert pixels(first.files("frames")[0]) != pixels(plain[0])
    prompt["old"]["inputs"]["seed"] = 44
    again = comfy_server.run_prompt(prompt)
    run = [node_id.removeprefix("old.0.0.") for node_id in again.executed]
    assert "1" in [node_id.removeprefix("old.0.0.") for node_id in first.executed]
    assert run == ["old", "3", "4", "frames"], "the sampler and the decoder alone"
    assert "lora_cache is not used" in comfy_server.log_text()


def test_what_a_model_does_not_look_at_is_said(comfy_server):
    prompt = old_prompt("V2V", checkpoint=f"{V51}-Control", denoise_strength=0.5)
    prompt["clip"] = vhs_clip(POSES, 0)
    prompt["old"]["inputs"] |= {"control_video": ["clip", 0], "validation_video": ["clip", 0]}
    prompt["model"]["inputs"]["GPU_memory_mode"] = "sequential_cpu_offload"
    comfy_server.run_prompt(prompt)
    log = comfy_server.log_text()
    for sentence in (
        "validation_video is not used: the model has the head Control.",
        "denoise_strength 0.5 is not used",
        "model_type Inpaint is not used",
        "config is not used",
        "sequential_cpu_offload is the same as model_cpu_offload",
    ):
        assert sentence in log


def test_a_short_clip_makes_a_short_video(comfy_server):
    prompt = old_prompt("V2V", denoise_strength=0.7, video_length=49)
    clip = vhs_clip(CLIP, 8)
    clip["inputs"]["frame_load_cap"] = 7
    prompt["clip"] = clip
    prompt["old"]["inputs"]["validation_video"] = ["clip", 0]
    assert len(comfy_server.run_prompt(prompt).files("frames")) == 5
    assert "video_length is 49; 5 frames are made" in comfy_server.log_text()
