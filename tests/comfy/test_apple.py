"""ComfyUI on a Mac's GPU, as `tests/apple_gpu.py` plays it."""

import pytest

from tests.comfy.findings import run_script

V51, V5 = "EasyAnimateV5.1-7b-zh-InP", "EasyAnimateV5-7b-zh-InP"
MOST_SCORES = 3 * 256 * 256


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "apple.py")


@pytest.mark.parametrize("checkpoint", [V51, V5])
def test_a_run_is_that_of_the_cpu(found, checkpoint):
    """In bfloat16, where the CPU computes in float32."""
    latents, frames = found[checkpoint]
    assert latents < 0.1
    assert frames < 0.1
    assert "convolution" in found["used"]


def test_comfyui_s_attention_is_called_for_parts(found):
    most, of_all = found["scores"]
    assert most <= MOST_SCORES < of_all


@pytest.mark.parametrize(
    ("stored", "kind"),
    [("fp8", "fp8"), ("int8", "int8"), ("plain", "fp8")],
)
def test_weights_that_the_gpu_cannot_hold_are_unpacked(found, stored, kind):
    error, report = found[stored]
    assert error < 0.3
    assert f"Weights in {kind} are unpacked on loading and stored in bfloat16." in report


def test_fp8_is_refused_with_what_works(found):
    for case in ("weight_dtype", "single file"):
        kind, message = found[case]
        assert kind == "InputError"
        assert message == (
            "weight_dtype is scaled fp8 (e4m3), but mps (a Mac's GPU) has no fp8. Choose default, "
            "bf16 or fp16."
        )
    kind, message = found["text_dtype"]
    assert kind == "InputError"
    assert "text_dtype is scaled fp8 (e4m3)" in message
    assert "Choose scaled int8, which is as small, or default." in message
    assert found["text on the CPU"] is None
    assert found["text in int8"] is None


def test_the_plan_counts_the_memory_once_and_has_no_fp8(found):
    report, shared, compute = found["plan"]
    assert shared
    assert compute == "torch.bfloat16"
    assert "with 8.0 GB of memory, shared with the card" in report
    assert found["small plan"] == ["default", "scaled int8"]
