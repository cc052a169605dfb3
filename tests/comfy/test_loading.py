"""Loaders, text, partial loading, decoding and refusals inside ComfyUI."""

import pytest

from tests.comfy.findings import run_script

V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
SAME = 1e-5


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "loading.py")


def test_text_embeddings_are_the_cores(found):
    gaps = {
        name: value
        for name, value in found.items()
        if name.startswith("text ") and "EasyAnimate" in name
    }
    assert len(gaps) == 15  # five prompts, V5 with two encoders
    assert max(gaps.values()) <= SAME


@pytest.mark.parametrize("checkpoint", [V51, V5])
def test_text_encode_node_reports_what_is_not_read(found, checkpoint):
    assert found[f"node {checkpoint}"] == 0
    assert found[f"report {checkpoint}"].startswith("The positive prompt is too long; cut off: '")
    assert found[f"report short {checkpoint}"] == "Both prompts fit completely."


def test_weight_dtypes(found):
    whole = found["dtype default"]["bytes"]
    for dtype, share, near, near_with_lora in (
        ("default", 1, 0, 0),
        ("bf16", 1, 0, 0),
        ("fp16", 1, 1e-4, 0.01),
        ("scaled fp8 (e4m3)", 0.5, 0.05, 0.1),
    ):
        result = found[f"dtype {dtype}"]
        assert result["bytes"] == whole * share
        assert result["relative"] <= near
        assert result["relative with LoRA"] <= near_with_lora


def test_single_files_load(found):
    for name in ("single denoiser", "single denoiser without config"):
        difference, report = found[name]
        assert difference == 0
        assert report == "EasyAnimate V5.1 0.113M, InP head; one.safetensors."
    assert found["single VAE"] == 0
    assert found["text encoder of a folder"] <= SAME


def test_previews_have_colours_where_there_is_a_vae(found):
    assert found["preview colours"] == [False, True, True]


@pytest.mark.parametrize("kind", ["saved", "saved fp8"])
def test_model_save_can_be_loaded_again(found, kind):
    assert found[kind] <= SAME


@pytest.mark.parametrize("kind", ["plain", "LoRA"])
def test_partial_loading_gives_the_same_bits(found, kind):
    same, (streamed, resident), (part_streamed, part_resident) = found[f"partial {kind}"]
    assert same
    assert not streamed
    assert part_streamed
    assert 0 < part_resident < resident


def test_a_weight_file_is_mapped_once(found):
    if "maps" not in found:
        pytest.skip("Linux tells what a process holds")
    *networks, lora = found["maps"]
    assert networks == [1, 1, 1]
    assert lora == 0


def test_layers_without_weights_are_filled(found):
    if "lazy" not in found:
        pytest.skip("this ComfyUI does not load dynamically")
    assert found["lazy"] == 0
    assert found["made anew"] == ["Model", "TextModel", "VideoVAE"]
    assert found["made anew gap"] == 0


def test_extra_model_paths_are_honoured(found):
    assert found["extra paths"] == [True, True, True]


def test_loader_says_what_it_found(found):
    assert found["report"] == (
        "EasyAnimate V5.1 0.111M, T2V head; original layout, stored as BF16, weights: default."
    )


def test_diffusers_layout_loads(found):
    difference, report = found["diffusers layout"]
    assert difference == 0
    assert "diffusers layout" in report


@pytest.mark.parametrize(
    ("case", "kind", "said"),
    [
        ("broken", "CheckpointError", "not an EasyAnimate V5 or V5.1 denoiser"),
        ("missing", "CheckpointError", "There is no checkpoint folder 'nowhere'"),
        ("head", "HeadError", "load an EasyAnimate V5.1 InP model"),
        ("control", "HeadError", "this model has the Control head"),
        ("nothing shown", "HeadError", "put the node EasyAnimate Control"),
        ("size", "InputError", "64 x 64 x 9 frames, the latent for 64 x 64 x 13 frames"),
        ("no image", "InputError", "give a start image"),
        ("keyframes", "InputError", "has 2 numbers"),
        ("scheduler", "SchedulerError", "Use Flow"),
        ("short", "InputError", "9 were requested"),
        ("empty video", "InputError", "there is no video to keep"),
        ("window", "InputError", "the start must be before the end"),
        ("V5 text", "InputError", "Use the text encoder of V5.1"),
        ("LoRA", "CheckpointError", "No key of odd.safetensors fits"),
    ],
)
def test_what_does_not_fit_is_explained(found, case, kind, said):
    assert found[f"error {case}"][0] == kind
    assert said in found[f"error {case}"][1]


def test_decode_node_is_vae_decode(found):
    assert found["decode core's VAEDecode"] == 0


def test_tiles_are_near_and_vae_decode_tiled_works(found):
    mean_difference, tiled_shape = found["decode tiles"]
    assert mean_difference < 0.02
    assert tiled_shape == [1, 5, 320, 384, 3]


def test_tiles_are_those_of_the_core(found):
    assert found["decode core's tiles"] == [0, 0]


def test_decode_goes_on_with_smaller_tiles(found):
    assert found["decode tried"] == [384, 320, 256, 256, 256, 256]  # memory runs out above 256
    assert found["decode short of memory"] == 0
    assert found["decode latents kept"]
    assert "not EasyAnimate's" in found["decode other VAE"][1]
