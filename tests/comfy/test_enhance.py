"""EasyAnimate Enhance Prompt inside ComfyUI."""

import pytest

from tests.comfy.findings import run_script


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "enhance.py")


def test_the_node_writes_what_the_core_writes(found):
    assert found["text"] == found["core"] == found["again"]
    assert found["other seed"] != found["text"]


def test_it_sees_the_first_frame(found):
    assert found["picture"] == found["picture again"]
    cases = ("picture", "other picture", "no picture")
    assert len({tuple(found[name]) for name in cases}) == 3
    assert found["only a picture"]
    assert found["picture 1 x 1"]
    assert found["picture 10 x 8000"]


def test_weights_in_eight_bits_write_too(found):
    assert found["int8"]


@pytest.mark.parametrize("form", ["fp8", "int8"])
@pytest.mark.parametrize("dtype", ["default", "scaled int8"])
def test_a_single_file_in_eight_bits_writes(found, form, dtype):
    assert found[f"file {form} {dtype}"]


def test_an_edited_text_is_used_as_it_is(found):
    text, report = found["edited"]
    assert text == "My own words."
    assert "edited text is used" in report


def test_the_language_model_is_unloaded(found):
    assert found["left loaded"] == 0
    assert found["left after interruption"] == 0
    assert "InterruptProcessing" in str(found["interrupted"])


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("headless", "no language head"),
        ("V5", "cannot write prompts. Use the text encoder of a V5.1"),
        ("empty", "The prompt is empty"),
        ("marks", "<|im_end|>"),
        ("long", "at most 2048"),
    ],
)
def test_what_cannot_be_written_is_explained(found, case, said):
    assert said in str(found[f"error {case}"])
