"""The ready-made workflows open in ComfyUI's own frontend and run, small, on real servers."""

import json
import os
import shutil
from itertools import combinations

import av
import numpy as np
import pytest
import torch
from PIL import Image

from easyanimate_core import small_model
from easyanimate_core.media import write_mp4
from tests.comfy.values import (
    OPEN_AND_READ,
    PREVIEW,
    SHOWN,
    differences,
    named_values,
    set_values,
)
from tests.core.preprocess import detector_weights
from tools import comfyui_base
from tools.workflows import schemas
from tools.workflows.canvas import FOLDER, TITLE
from tools.workflows.drafts import EXAMPLE_IMAGE
from tools.workflows.notes import REWARD_LORA

FILES = {file.stem: file for file in FOLDER.glob("*.json")}
WIDTH, HEIGHT, LENGTH, STEPS, FPS = 96, 64, 9, 2, 8
#: In the names of those that run as they are shipped, with the small model of the pack.
TRIAL = "Try it"
LONG = "Text to video - long"
LONG_LENGTH = 65  # 17 latent frames: two windows
#: By the lengths of the workflows; two halves share a frame.
LENGTHS = {1: 1, 25: 5, 49: LENGTH, 97: LONG_LENGTH}
PICTURE, MASK, CLIP = "astronaut.png", "painted.png", "small.mp4"
#: For detectors: OpenPose's network, in its published size, takes a second per frame on a CPU.
SHORT_CLIP, SHORT_LENGTH = "short.mp4", 4
#: What a workflow is run with instead of its own values, by name of the widget.
SMALL = {
    "width": WIDTH,
    "height": HEIGHT,
    "steps": STEPS,
    "resolution": HEIGHT,
    "keyframes": "0, 0, 0, 0\n4, 1, 0, 1, -20, 0, 0\n8, 1.5, -0.5, 2.5, -35, -5, 0",
    "tracks": '[{"x": 24, "y": 32}, {"x": 72, "y": 32}]',
}
SOURCES = {
    ("LoadImage", "image"): PICTURE,
    ("LoadVideo", "file"): CLIP,
    ("VHS_LoadVideo", "video"): CLIP,
}
#: Weights of the workflows' detectors, beside those of networks in folders.
PICKLES = ("ControlNetHED.pth", "body_pose_model.pth", "mlsd_large_512_fp32.pth", "netG.pth")
#: As they are, some with files that nobody chose yet.
AS_SHIPPED = (
    "2 Text to video",
    "3 Image to video",
    "4 Video to video",
    "5 Control - pose",
    "8 VHS - video to video",
)


def checkpoint_of(name):
    nodes = json.loads(FILES[name].read_text(encoding="utf-8"))["nodes"]
    return next(n for n in nodes if n["type"] == "EasyAnimateLoadCheckpoint")["widgets_values"][0]


#: Those of one checkpoint after each other: it stays loaded.
NAMES = sorted(FILES, key=lambda name: (checkpoint_of(name), name))


def read(name):
    return json.loads(FILES[name].read_text(encoding="utf-8"))


def first_with(node_type):
    """The name of a workflow that has such a node."""
    return next(name for name in NAMES if any(n["type"] == node_type for n in read(name)["nodes"]))


def small(name):
    """A workflow with sizes and files that a CPU gets done in a moment; a trial as it is."""
    workflow = read(name)
    if TRIAL in name:
        return workflow
    draws = any(node["type"] == "EasyAnimatePreprocess" for node in workflow["nodes"])
    for node in workflow["nodes"]:
        values = named_values(node)
        changed = {key: value for key, value in SMALL.items() if key in values}
        if draws and "if_short" in values:
            changed["if_short"] = "repeat last frame"
        if "length" in values:
            changed["length"] = LENGTHS[values["length"]]
        for (kind, widget), source in SOURCES.items():
            if node["type"] == kind:
                changed[widget] = MASK if node["title"].startswith("Mask") else source
                if draws and source == CLIP:
                    changed[widget] = SHORT_CLIP
        set_values(node, **changed)
    return workflow


def overlaps(nodes):
    """Pairs of nodes that cover each other, in the sizes that the frontend gave them."""
    frames = {
        f"{node['id']} ({node['type']})": (
            node["pos"][0],
            node["pos"][1] - TITLE,
            node["pos"][0] + node["size"][0],
            node["pos"][1] + node["size"][1],
        )
        for node in nodes
    }
    return [
        (one, other)
        for (one, a), (other, b) in combinations(frames.items(), 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


@pytest.fixture(scope="session", autouse=True)
def sources(comfy_server):
    """Small files for the workflows, in the server's folders."""
    folder = comfy_server.base / "input"
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(2 * LENGTH, HEIGHT, WIDTH, 3, generator=generator)
    write_mp4(folder / CLIP, frames, fps=2 * FPS)
    write_mp4(folder / SHORT_CLIP, frames[:SHORT_LENGTH], fps=2 * FPS)
    painted = np.full((HEIGHT, WIDTH, 4), 255, dtype=np.uint8)
    painted[16:48, 32:64, 3] = 0  # what the mask editor makes of a painted region
    Image.fromarray(painted).save(folder / MASK)
    example = comfy_server.installation.comfyui / "input" / EXAMPLE_IMAGE
    shutil.copy(example, folder)
    models = comfy_server.base / "models"
    transformer = models / "EasyAnimate" / "EasyAnimateV5-7b-zh-InP" / "transformer"
    comfyui_base.write_lora(models / "loras" / REWARD_LORA["name"], transformer)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Random weights of the detectors, in their published formats."""
    folder = tmp_path_factory.mktemp("controlnet_aux")
    for name in PICKLES:
        detector_weights.write_pickle(folder, name)
    detector_weights.write_depth_anything(folder)
    detector_weights.write_dwpose(folder, box=(20, 8, 70, 56), picture=(HEIGHT, WIDTH))
    return folder


@pytest.fixture(scope="module")
def detectors(comfy_server, weights):
    """They are there while this module runs: other tests want them to be missing."""
    folder = comfy_server.base / "models" / "controlnet_aux"
    shutil.copytree(weights, folder, copy_function=os.link, dirs_exist_ok=True)
    yield
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def frontend(browser_page):
    """The frontend, which knows the files above."""
    browser_page.reload()
    return browser_page


def test_the_snapshot_is_what_the_server_says(comfy_server):
    version = ".".join(comfy_server.version.split(".")[:2])
    found = schemas.compact(comfy_server.object_info())
    known = schemas.read_compact(version if version in schemas.VERSIONS else schemas.NEWEST)
    if version not in schemas.VERSIONS:  # ComfyUI's own nodes are another version's
        found, known = (
            {k: v for k, v in nodes.items() if k.startswith(schemas.PACK_PREFIX)}
            for nodes in (found, known)
        )
    changed = {
        name: (found.get(name), known.get(name))
        for name in found.keys() | known.keys()
        if found.get(name) != known.get(name)
    }
    assert not changed, f"write them again: python -m tools.workflows --schemas ({changed})"


def test_comfyui_lists_them_as_templates(comfy_server):
    names = comfy_server.get_json("/api/workflow_templates")[comfyui_base.PACK]
    assert sorted(names) == sorted(FILES)


def skip_without_weights(name):
    if TRIAL in name and not all(map(small_model.is_installed, small_model.HEADS)):
        pytest.skip(f"the small model's weights are not in {small_model.FOLDER}")


@pytest.mark.parametrize("node", ["EasyAnimateLoadCheckpoint", "EasyAnimateMemoryPlan"])
def test_the_small_model_stands_at_the_end_of_the_list(comfy_server, node):
    """It is there without any file in models/."""
    skip_without_weights(TRIAL)
    info = comfy_server.object_info(node)["input"]["required"]["checkpoint"]
    options = info[0] if isinstance(info[0], list) else info[1]["options"]
    assert options[-len(small_model.NAMES) :] == list(small_model.NAMES)


@pytest.mark.parametrize("mode", AS_SHIPPED)
def test_it_opens_without_complaint_before_files_are_chosen(frontend, mode):
    report = frontend.open_workflow(read(mode))
    faults = report.faults
    unchosen = faults.pop("invalid_values", [])
    assert not faults
    assert all(line.split(": ")[1].endswith("= ") for line in unchosen), unchosen


def test_a_missing_lora_is_offered_for_download(frontend):
    workflow = read("7 LoRA")
    (node,) = (n for n in workflow["nodes"] if n["type"] == "EasyAnimateLoadLora")
    missing = f"missing-{REWARD_LORA['name']}"
    set_values(node, lora=missing)
    node["properties"]["models"] = [{**REWARD_LORA, "name": missing}]
    report = frontend.open_workflow(workflow)
    assert any(missing in text for text in (*report.dialogs, *report.errors))


@pytest.fixture(params=["canvas", "vue"])
def drawn(frontend, request):
    """The frontend with one of its two ways of drawing nodes."""
    frontend.set_setting("Comfy.VueNodes.Enabled", request.param == "vue")
    yield frontend
    frontend.set_setting("Comfy.VueNodes.Enabled", False)
    frontend.close_dialogs()


def with_a_clip(workflow):
    """Core's loader shows the first file of its list where none is chosen, in some frontends."""
    for node in workflow["nodes"]:
        if node["type"] == "LoadVideo":
            set_values(node, file=CLIP)
    return workflow


@pytest.mark.newest_frontend
def test_every_value_is_that_of_the_file(drawn):
    """On the page, and in the prompt that Run would send."""
    wrong = {}
    for name in FILES:
        workflow = with_a_clip(read(name))
        if found := differences(workflow, *drawn.page.evaluate(OPEN_AND_READ, workflow)):
            wrong[name] = found
    assert not wrong


@pytest.mark.newest_frontend
def test_shifted_values_are_noticed(drawn, comfy_server):
    """Frontends from 1.55 shift those of VideoHelperSuite when its preview is not among them."""
    workflow = read(first_with("VHS_LoadVideo"))
    for node in workflow["nodes"]:
        if node["type"] == "VHS_LoadVideo":
            del node["widgets_values"][PREVIEW]
    found = differences(workflow, *drawn.page.evaluate(OPEN_AND_READ, workflow))
    if comfy_server.installation.frontend is None:
        assert not found
        return
    for place in ("page", "prompt"):
        assert any("frame_load_cap is 0" in line and place in line for line in found), found


@pytest.mark.newest_frontend
def test_fewer_or_more_values_than_widgets(drawn):
    """New widgets, which stand at the end, get their defaults; what is beyond is left out."""
    workflow = with_a_clip(read(first_with("EasyAnimateSampler")))
    node = next(n for n in workflow["nodes"] if n["type"] == "EasyAnimateSampler")
    whole = named_values(node)
    changed = {key: value + 1 for key, value in whole.items() if key in ("seed", "steps")}
    set_values(node, **changed)
    wanted = whole | changed
    kept = len(whole) // 2
    for values in (list(wanted.values())[:kept], [*wanted.values(), "beyond", None, 7]):
        node["widgets_values"] = values
        shown, prompt = drawn.page.evaluate(OPEN_AND_READ, workflow)
        named = shown[str(node["id"])]
        assert {key: named[key] for key in wanted} == wanted
        inputs = prompt[str(node["id"])]["inputs"]
        assert {key: inputs[key] for key in changed} == changed


@pytest.mark.usefixtures("detectors")
@pytest.mark.parametrize("name", NAMES)
def test_it_opens_and_runs(frontend, comfy_server, tmp_path, name):
    skip_without_weights(name)
    workflow = small(name)
    report = frontend.open_workflow(workflow)
    frontend.page.screenshot(path=tmp_path / "opened.png")
    assert report.faults == {}
    assert overlaps(report.nodes) == []
    prompt = frontend.graph_to_prompt()
    assert differences(workflow, frontend.page.evaluate(SHOWN), prompt) == []
    history = comfy_server.run_prompt(prompt, workflow=workflow)
    (file,) = [path for path in history.files() if path.parent.parent.name == "output"]
    check_output(file, name)
    for node in workflow["nodes"]:
        if node["type"] == "PreviewImage":
            assert history.files(node["id"]), f"{node['title']} shows nothing"


def check_output(file, name):
    """The file has the size, length and rate that were asked for."""
    assert file.parent.name == "EasyAnimate"
    if "Text to image" in name:
        with Image.open(file) as picture:
            assert (picture.format, picture.size) == ("PNG", (WIDTH, HEIGHT))
        return
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert "mp4" in container.format.name.split(",")
        assert (stream.codec_context.name, stream.average_rate) == ("h264", FPS)
        frames = [(frame.width, frame.height) for frame in container.decode(stream)]
    if TRIAL in name:
        length, *size = small_model.SIZE
        assert frames == [tuple(size)] * length
        return
    assert frames == [(WIDTH, HEIGHT)] * (LONG_LENGTH if LONG in name else LENGTH)
