"""Files that `convert` wrote, inside ComfyUI: what its layers know stays, the rest is unpacked."""

import pytest

from tests.comfy.findings import run_script

#: Relative distance of the latents after six steps, without and with a LoRA.
NEAR = {
    "bf16": (0, 0),
    "fp16": (1e-4, 0.01),
    "fp32": (0, 0.02),
    "fp8": (0.05, 0.1),
    "fp8-channel": (0.05, 0.06),
    "no notes": (0.05, 0.1),
    "scale_weight": (0.05, 0.1),
    "wrapped": (0.05, 0.1),
    "int8": (0.02, 0.06),
    "bf16.gguf": (0, 0),
    "q8_0.gguf": (0.02, 0.03),
    "q5_1.gguf": (0.1, 0.1),
    "q4_0.gguf": (0.25, 0.25),
    "q8_0.gguf as fp8": (0.06, 0.1),
    "fp8-channel as fp8": (0.06, 0.1),
    "nested": (0.02, 0.03),
}


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "formats.py")


@pytest.mark.parametrize("case", NEAR)
def test_a_converted_file_gives_nearly_the_same_video(found, case):
    assert found[case]["relative"] <= NEAR[case][0]
    assert found[case]["relative with LoRA"] <= NEAR[case][1]
    assert (found[case]["relative"] > 0) == (NEAR[case][0] > 0)


def test_what_comfyui_computes_with_is_stored_as_in_the_file(found):
    for case in ("fp8", "no notes", "scale_weight", "wrapped"):
        assert found[case]["stored as"] == "torch.float8_e4m3fn"
    native = "int8_tensorwise" in found["native"]
    assert found["int8"]["stored as"] == ("torch.int8" if native else "torch.bfloat16")
    assert ("unpacked" in found["int8"]["report"]) != native


def test_what_it_does_not_compute_with_is_unpacked_and_said(found):
    said = " Weights in {} are unpacked on loading and stored in {}."
    for case, kind, stored, dtype in (
        ("fp8-channel", "fp8-channel", "bfloat16", "bfloat16"),
        ("q8_0.gguf", "GGUF", "bfloat16", "bfloat16"),
        ("q8_0.gguf as fp8", "GGUF", "float8_e4m3fn", "scaled fp8 (e4m3)"),
        ("fp8-channel as fp8", "fp8-channel", "float8_e4m3fn", "scaled fp8 (e4m3)"),
    ):
        assert found[case]["stored as"] == f"torch.{stored}"
        assert found[case]["report"].endswith(said.format(kind, dtype))
    assert "unpacked" not in found["bf16.gguf"]["report"]
    assert "unpacked" not in found["fp8"]["report"]


def test_gguf_files_are_listed(found):
    assert found["listed"] == sorted(found["listed"])
    assert {"q8_0.gguf", "mine/deep.gguf"} <= set(found["listed"])


def test_a_converted_folder_loads(found):
    difference, report = found["folder"]
    assert 0 < difference <= 0.05
    assert "F8_E4M3" in report
    assert "Weights in fp8-channel are unpacked" in report


def test_a_single_vae_file_decodes_the_same(found):
    assert found["VAE"] == 0
