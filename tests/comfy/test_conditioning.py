"""Saving and loading encoded prompts inside ComfyUI."""

import shutil

import pytest

from tests.comfy.findings import run_script

EMBEDDINGS = "EasyAnimate_embeddings"
V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
PROMPT = "a red fox runs 一只红色的狐狸"


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "conditioning.py")


@pytest.mark.parametrize(("checkpoint", "number"), [(V51, 1), (V5, 2)])
def test_a_file_gives_what_the_text_encoder_gives(found, checkpoint, number):
    result = found[f"round trip {checkpoint}"]
    assert result["listed"]
    assert result["name"] == f"mine/fox_{number:05}_.safetensors"
    assert result["report"] == f"positive: {PROMPT}\nnegative: blurred"
    assert result["same states"]
    t5 = ["easyanimate_text_t5"] if checkpoint == V5 else []
    assert result["keys"] == ["easyanimate_prompt", *t5, "pooled_output"]
    assert result["gap"] == 0


def test_the_command_line_and_the_nodes_read_each_other_s_files(found):
    assert found["encode"] == 0
    assert found["encode shape"] == [[2, 256, 32], [1, 256, 32]]
    assert found["encode report"] == f"positive: {PROMPT}\npositive: a cat\nnegative: blurred"
    assert found["encode gap"] <= 1e-5
    shape, difference = found["encode batch"]
    assert shape == [2, 16, 3, 8, 8]
    assert difference > 0.1
    assert found["node's prompts"] == [[PROMPT], "blurred"]
    assert found["node's file in the core"] == [1, 16, 2, 8, 8]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("V5 file", "Use the text encoder of V5.1"),
        ("V5.1 file", "Use the text encoder of V5"),
        ("shown", "an image or a control video, which cannot be saved"),
        ("parts", "has 2 parts"),
        ("area", "also contains area"),
        ("outside", "outside the output folder"),
    ],
)
def test_what_cannot_be_kept_or_used_is_explained(found, case, said):
    assert said in found[f"error {case}"][1]


def test_a_file_that_is_gone_is_explained(found):
    assert "There is no file 'none.safetensors'" in found["error missing"]


def test_one_text_may_be_both_prompts(found):
    assert found["same text twice"]


def test_a_folder_that_was_removed_leaves_the_node_in_the_menu(comfy_server):
    node, folder = "EasyAnimateLoadConditioning", comfy_server.base / "output" / EMBEDDINGS
    (folder / "mine").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "fox.safetensors").touch()
    assert "mine/fox.safetensors" in str(comfy_server.object_info(node))
    shutil.rmtree(folder)
    assert "mine/fox.safetensors" not in str(comfy_server.object_info(node))
