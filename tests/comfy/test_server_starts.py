"""A real ComfyUI starts with this pack, answers, and opens in a browser."""

import numpy as np
import pytest
from PIL import Image

from tests.comfy.server import PromptError
from tools.comfyui_base import PACK, VIDEO_HELPER_SUITE

TWO_PICTURES = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "astronaut.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    "4": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "folder/copy"},
    },
}


def load_line(server, pack):
    lines = [line for line in server.log_text().splitlines() if line.endswith(f"/{pack}")]
    return next(line for line in lines if "seconds" in line)


def test_the_version_is_the_installation_s(comfy_server):
    stats = comfy_server.get_json("/system_stats")
    assert stats["system"]["comfyui_version"] == comfy_server.version
    assert [device["type"] for device in stats["devices"]] == ["cpu"]


@pytest.mark.parametrize("pack", [PACK, VIDEO_HELPER_SUITE])
def test_packs_are_loaded_without_an_error(comfy_server, pack):
    assert "IMPORT FAILED" not in load_line(comfy_server, pack), comfy_server.log_text()[-6000:]


def test_nothing_is_written_into_comfyui(comfy_server):
    for name in ("user", "temp"):
        assert not (comfy_server.installation.comfyui / name).exists()


def test_a_prompt_writes_its_files(comfy_server):
    history = comfy_server.run_prompt(TWO_PICTURES)
    preview, saved = history.files("3")[0], history.files("4")[0]
    assert saved.parent == comfy_server.base / "output" / "folder"
    pixels = np.asarray(Image.open(saved), dtype=int)
    inverted = np.asarray(Image.open(preview), dtype=int)
    assert abs(inverted + pixels - 255).max() <= 1  # ComfyUI rounds down
    assert comfy_server.run_prompt(TWO_PICTURES).cached >= {"1", "2"}


def test_a_refused_prompt_names_the_node(comfy_server):
    broken = {**TWO_PICTURES, "1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}}}
    with pytest.raises(PromptError, match=r"none\.png") as refused:
        comfy_server.run_prompt(broken)
    assert list(refused.value.node_errors) == ["1"]


def test_a_failed_prompt_has_node_and_traceback(comfy_server):
    sizes = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": sizes},
        "2": {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "alpha"}},
        "3": {"class_type": "MaskPreview", "inputs": {"mask": ["2", 0]}},
    }
    with pytest.raises(PromptError, match="node 2") as failed:
        comfy_server.run_prompt(prompt)
    assert (failed.value.kind, failed.value.node_type) == ("execution_error", "ImageToMask")
    assert "IndexError" in failed.value.exception_type
    assert "nodes_mask.py" in failed.value.traceback


def test_a_script_runs_inside_comfyui(comfy_python):
    source = """
import sys
import comfy.model_management
import folder_paths
pack = load_pack()
print(comfy.model_management.get_torch_device(), folder_paths.base_path, *sys.argv[1:])
print(hasattr(pack, "comfy_entrypoint"))
"""
    said = comfy_python.run_script(source, 1, "two").splitlines()
    assert said[-2:] == [f"cpu {comfy_python.base} 1 two", "True"]


def test_the_browser_shows_the_default_workflow(browser_page, tmp_path):
    browser_page.page.evaluate("() => app.graph.clear()")
    blank = np.asarray(Image.open(browser_page.screenshot(tmp_path / "blank.png")), dtype=int)
    browser_page.command("Comfy.LoadDefaultWorkflow")
    report = browser_page.report()
    assert {"KSampler", "VAEDecode", "SaveImage"} <= {node["type"] for node in report.nodes}
    assert not report.missing
    assert not report.broken_links
    assert not report.unconnected
    shown = np.asarray(Image.open(browser_page.screenshot(tmp_path / "shown.png")), dtype=int)
    assert shown.shape[:2] == (1080, 1920)
    assert (abs(shown - blank).max(axis=-1) > 16).mean() > 0.05
    types = {node["class_type"] for node in browser_page.graph_to_prompt().values()}
    assert {"KSampler", "VAEDecode", "SaveImage"} <= types
