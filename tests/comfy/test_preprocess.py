"""The control video node in real ComfyUIs: alone, on a server, and in the frontend."""

import numpy as np
import pytest
from PIL import Image

from tests.comfy.findings import run_script
from tests.comfy.prompts import node
from tests.comfy.server import PromptError


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "preprocess.py")


def test_node_gives_what_the_core_gives(found):
    assert found["shape"] == [3, 96, 130, 3]
    assert found["same"]
    assert found["cached"]
    assert found["report"].startswith("Canny edges of 3 frames, 130 x 96, found at 87 x 64.")
    assert "low_threshold 50" in found["report"]


def test_weights_are_found_in_comfyui_s_folders(found):
    assert found["missing"].startswith("CheckpointError: ")
    assert "ControlNetHED.pth" in found["missing"]
    assert found["models"] in found["missing"]
    assert found["folders"][0] == found["models"]
    shape, low, high, deviation = found["soft"]
    assert shape == [3, 96, 130, 3]
    assert 0 <= low < high <= 1
    assert deviation > 0.005
    first, second = found["seconds"]
    assert second < first / 2  # from the cache


def test_cancel_reaches_the_detector(found):
    assert found["cancelled"] == "InterruptProcessingException"


def control_video(picture, **kind):
    return {
        "picture": node("LoadImage", image=picture),
        "detect": node("EasyAnimatePreprocess", image=["picture", 0], resolution=128, **kind),
        "frames": node("SaveImage", images=["detect", 0], filename_prefix="control"),
    }


def test_choices_arrive_on_a_server(comfy_server):
    """The names that the frontend gives them: COMBO.INPUT."""
    info = comfy_server.object_info()
    picture = info["LoadImage"]["input"]["required"]["image"][0][0]
    results = []
    for low in (20, 200):
        choice = {"kind": "canny", "kind.low_threshold": low, "kind.high_threshold": 200}
        history = comfy_server.run_prompt(control_video(picture, **choice))
        (file,) = history.files("frames")
        results.append(np.asarray(Image.open(file)))
        steps = [(value, most) for name, value, most in history.progress if name == "detect"]
        assert steps[-1] == (1, 1)
    assert results[0].shape == results[1].shape
    assert results[0].sum() > results[1].sum()


def test_missing_weights_end_the_run_with_the_reason(comfy_server):
    picture = comfy_server.object_info()["LoadImage"]["input"]["required"]["image"][0][0]
    with pytest.raises(PromptError) as error:
        comfy_server.run_prompt(control_video(picture, kind="scribble_pidi"))
    assert error.value.node_id == "detect"
    assert "needs table5_pidinet.pth of https://huggingface.co/lllyasviel" in str(error.value)


#: The widgets of the node in the open frontend after a choice of its kind.
WIDGETS = """([kind]) => {
  const node = window.LiteGraph.createNode('EasyAnimatePreprocess')
  window.app.graph.add(node)
  const combo = node.widgets.find((widget) => widget.name === 'kind')
  combo.value = kind
  const found = node.widgets.map((widget) => [widget.name, widget.value])
  window.app.graph.remove(node)
  return found
}"""


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("canny", {"kind.low_threshold": 100, "kind.high_threshold": 200}),
        ("openpose", {"kind.body": True, "kind.hand": False, "kind.face": False}),
        ("depth_anything_v2", {"kind.near_is_bright": True, "kind.size": "Small"}),
        ("hed", {}),
    ],
)
def test_a_choice_brings_its_own_widgets(browser_page, kind, options):
    found = dict(browser_page.page.evaluate(WIDGETS, [kind]))
    assert found == {"kind": kind, **options, "resolution": 0, "width": 0, "height": 0}
