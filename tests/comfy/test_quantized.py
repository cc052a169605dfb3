"""LoRA strengths by block, and text encoders in int8 and fp8, inside ComfyUI."""

import pytest

from tests.comfy.findings import run_script

V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
SAME = 1e-5


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "quantized.py")


def test_block_strengths_are_factors(found):
    to_scaled_file, to_plain = found["blocks"]
    assert to_scaled_file <= 1e-3  # the scaled file's matrices are rounded to bfloat16 once more
    assert to_plain > 0.01
    assert found["off"] == 0
    assert found["whole"] == 0
    matched, _, blocks = found["report"].partition(" Blocks ")
    assert matched == "90 of 90 keys matched, 12 layers are changed."
    assert blocks == "0 at 0.5, 1 to 2 at 0 times the strength."


@pytest.mark.parametrize(
    ("case", "said"),
    [("grammar", "is not BLOCK=FACTOR"), ("missing", "this model has blocks 0 to 2")],
)
def test_block_strengths_that_do_not_fit_are_explained(found, case, said):
    assert found[f"error {case}"][0] == "InputError"
    assert said in found[f"error {case}"][1]


@pytest.mark.parametrize("kind", ["alpha", "old", "dora", "loha", "lokr", "bias"])
def test_a_lora_of_any_kind_acts_as_the_core_s(found, kind):
    result = found[f"kind {kind}"]
    assert "1 layer is changed." in result["report"]
    assert result["patches"] == (2 if kind == "bias" else 1)
    assert result["to plain"] > 0.01
    # ComfyUI divides DoRA's lengths by those of the weight alone, and merged files are rounded.
    assert result["to core"] < (0.5 if kind == "dora" else 0.1) * result["to plain"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("broken", "lora_B.weight of broken.safetensors contains NaN or infinite values"),
        ("odd", "(oft_blocks)"),
    ],
)
def test_a_lora_that_the_command_line_refuses_is_refused(found, kind, said):
    assert found[f"kind {kind}"]["error"][0] == "CheckpointError"
    assert said in found[f"kind {kind}"]["error"][1]


@pytest.mark.parametrize("checkpoint", [V51, V5])
def test_a_text_encoder_in_fewer_bits(found, checkpoint):
    assert found[f"text {checkpoint} default"]["layers"] == 0
    int8, fp8 = (0.04, 0.17) if checkpoint == V51 else (0.02, 0.065)
    for dtype, near in (("scaled int8", int8), ("scaled fp8 (e4m3)", fp8)):
        result = found[f"text {checkpoint} {dtype}"]
        assert result["layers"] > 5
        assert result["bytes"] == [1]
        assert 1e-4 < result["error"] < near
        assert result["to core"] <= SAME
        assert found[f"streamed {checkpoint} {dtype}"]


def test_a_whole_checkpoint_takes_the_choice(found):
    assert found["checkpoint"] == "TextModel"
