"""The doctor inside ComfyUI: its own view of the machine, and the page for bug reports."""

import re

import pytest

from tests.comfy.findings import run_script


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "doctor.py")


def test_comfyuis_own_view(found, comfyui):
    page = found["page"]
    assert f"ok    ComfyUI {comfyui.version}" in page
    assert re.search(r"ok    comfyui-frontend-package \d", page)
    assert "\nComfyUI\n  ok    device: cpu" in page
    assert "VRAM state: " in page
    assert re.search(r"  ok    attention: attention_\w+\n", page)
    assert re.search(r"  ok    ComfyUI's attention: error \S+ \(at most 0\.1\)", page)


def test_the_originals_results_are_reached(found):
    results = found["page"].partition("Parity with the original\n")[2]
    assert results.count("  ok    ") >= 7
    assert "WRONG" not in results
    assert "Parity" not in found["quick"]


def test_checkpoints_are_examined_and_planned(found):
    name = "EasyAnimateV5.1-7b-zh-InP"
    assert re.search(rf"ok    {name}: V5\.1 \S+ InP, .* whole by their headers", found["page"])
    assert f"{name}, 384x672x49" in found["page"]
    assert f"WRONG {name}/transformer: " in found["damaged"]
    assert "download it again" in found["damaged"]


def test_the_page_does_not_name_the_home_folder(found):
    home = found["home"]
    assert len(home) > 1
    assert not re.search(re.escape(home) + r"(?![\w-])", found["page"] + found["damaged"])


def test_it_can_be_cancelled(found):
    assert found["cancelled"][0] == "CancelError"
