"""Cards without bfloat16 inside ComfyUI: the dtypes of each part, and what float16 gives."""

import pytest

from tests.comfy.findings import run_script

#: Of the largest latent: in bfloat16, which ComfyUI would take elsewhere, it is 0.03.
NEAR = 0.02


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "cards.py")


@pytest.mark.parametrize(
    ("card", "denoiser", "vae", "text"),
    [
        ("turing", "float16", "float32", "float32"),
        ("ampere", "bfloat16", "bfloat16", "bfloat16"),
        ("gtx 16", "float32", "float32", "float32"),
    ],
)
def test_each_part_has_a_dtype_that_holds_its_values(found, card, denoiser, vae, text):
    assert found[card] == [denoiser, vae, text]


@pytest.mark.parametrize("weights", ["default", "fp16", "scaled fp8 (e4m3)"])
def test_float16_is_near_float32_however_the_weights_are_stored(found, weights):
    result = found[f"float16, weights {weights}"]
    assert result["dtype"] == "float16"
    assert 0 < result["gap"] < NEAR
    assert "It computes in float16, and in float32 where float16 would" in result["report"]


def test_what_leaves_the_range_is_computed_in_float32(found):
    assert found["overflow"] < NEAR


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("denoiser", "The denoiser's prediction in float32 contains NaN or infinite values"),
        ("decoded", "The VAE's output in float32 contains NaN or infinite values"),
        ("encoded", "What the VAE encodes in float32 contains NaN or infinite values"),
    ],
)
def test_values_that_are_not_finite_are_an_error_and_no_black_video(found, case, said):
    kind, message = found[case]
    assert kind == "PrecisionError"
    assert said in message
