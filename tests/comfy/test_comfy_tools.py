"""ComfyUI's own tools act on the pack's models as on its own."""

import pytest

from tests.comfy.findings import run_script

#: Differences of latents whose standard deviation is about 2.
SAME, MOVED = 1e-4, 0.05


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "comfy_tools.py")


def test_sampler_custom_advanced_is_ksampler(found):
    assert found["SamplerCustomAdvanced"] <= SAME
    assert found["SamplerCustomAdvanced uni_pc"]


@pytest.mark.parametrize("cache", ["EasyCache", "LazyCache"])
def test_caches_skip_steps(found, cache):
    (skipped, steps), finite = found[cache]
    assert steps == 20
    assert 3 <= skipped < steps
    assert finite


def test_model_sampling_sd3_shifts_both_samplers(found):
    assert found["ModelSamplingSD3 same shift"] <= SAME
    assert found["ModelSamplingSD3"] > MOVED
    assert found["ModelSamplingSD3 own"] > MOVED


def test_cfg_zero_star_acts_on_both_samplers_alike(found):
    assert found["CFGZeroStar"] > MOVED
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


def test_lora_acts_alike_on_both_samplers(found):
    assert found["LoRA"] > MOVED
    assert found["LoRA own sampler"] <= SAME
    assert found["LoRA report"] == "90 of 90 keys matched, 30 layers are changed."


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
    assert found["compiled"] <= SAME
