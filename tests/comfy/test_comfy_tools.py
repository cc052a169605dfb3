"""ComfyUI's own tools act on the pack's models as on its own."""

import pytest

from tests.comfy.findings import run_script

#: Differences of latents whose standard deviation is about 2.
SAME, MOVED = 1e-4, 0.05


@pytest.fixture(scope="module", params=["V5.1", "V5"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def found(comfy_python, version):
    return run_script(comfy_python, "comfy_tools.py", f"EasyAnimate{version}-7b-zh-InP")


def test_sampler_custom_advanced_is_ksampler(found):
    assert found["SamplerCustomAdvanced"] <= SAME
    assert found["SamplerCustomAdvanced uni_pc"]


@pytest.mark.parametrize("cache", ["EasyCache", "LazyCache"])
def test_caches_skip_steps(found, cache):
    (skipped, steps), finite = found[cache]
    assert steps == 20
    assert 3 <= skipped < steps
    assert finite


def test_model_sampling_sd3_shifts_both_samplers(found, version):
    if version == "V5":
        pytest.skip("V5 is no flow model: it has no shift")
    assert found["ModelSamplingSD3 same shift"] <= SAME
    assert found["ModelSamplingSD3"] > MOVED
    assert found["ModelSamplingSD3 own"] > MOVED


def test_cfg_zero_star_acts_on_both_samplers(found, version):
    assert found["CFGZeroStar"] > MOVED
    assert found["CFGZeroStar own"] > MOVED
    if version == "V5.1":  # where both samplers walk the same schedule
        assert found["CFGZeroStar own"] == pytest.approx(found["CFGZeroStar"], abs=1e-3)


def test_rescale_cfg_acts_and_excludes_the_samplers_own(found):
    assert found["RescaleCFG"] > MOVED
    kind, message = found["RescaleCFG conflict"]
    assert kind == "InputError"
    assert "RescaleCFG" in message


def test_skip_layer_guidance_skips_blocks(found):
    assert found["SkipLayerGuidanceDiT 1"] > MOVED
    assert found["SkipLayerGuidanceDiT 77"] <= SAME  # there is no such block


@pytest.mark.parametrize("sampler", ["KSampler", "own"])
def test_noise_mask_keeps_what_it_does_not_cover(found, sampler):
    assert found[f"noise mask {sampler} kept"] <= 1e-5
    assert found[f"noise mask {sampler} new"] > 1


@pytest.mark.parametrize("sampler", ["KSampler", "own"])
def test_context_windows_cut_latents_and_condition(found, sampler):
    shape, lengths, known = found[f"windows {sampler}"]
    assert shape == [1, 16, 17, 8, 8]  # 65 frames
    # Newer releases of ComfyUI put one frame more before a window that does not begin the video.
    assert max(lengths) in (5, 6)
    # The start image is known in the first window alone.
    assert [1, 0, 0, 0, 0] in known
    assert any(sum(frames) == 0 for frames in known)


def test_lora_acts_on_both_samplers(found, version):
    assert found["LoRA"] > MOVED
    to_ksampler, to_plain = found["LoRA own sampler"]
    assert to_plain > MOVED
    if version == "V5.1":  # where both samplers walk the same schedule
        assert to_ksampler <= SAME
    assert found["LoRA report"] == "90 of 90 keys matched, 30 layers are changed."


def test_convert_makes_a_lora_that_comfyuis_loader_knows(found):
    assert found["core EasyAnimateV5.1-tiny-lora.safetensors"] == found["LoRA"]  # without effect
    assert found["core converted.safetensors"] <= SAME
    assert found["converted"] <= SAME


@pytest.mark.parametrize("habit", ["kohya", "peft"])
def test_lora_loader_model_only_loads_names_that_it_knows(found, habit):
    assert found[f"LoraLoaderModelOnly {habit}"] <= SAME


def test_model_merge_simple_gives_either_model(found):
    assert found["merge 1.0"] <= SAME
    assert found["merge 0.0"] <= SAME


def test_cancel_ends_the_run_within_a_block(found):
    kind, finished_blocks = found["cancelled"]
    assert kind == "InterruptProcessingException"
    assert finished_blocks == [0]


def test_torch_compile_gives_the_same(found):
    assert found["compiled"] <= 1e-3  # fused kernels round elsewhere, and V5 begins at sigma 4518
