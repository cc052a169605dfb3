"""ComfyUI's hooks, caches and schedules act on the pack's models, or say that they cannot."""

import pytest

from tests.comfy.findings import run_script

#: Differences of latents whose standard deviation is about 2.
SAME, MOVED = 1e-4, 0.02
BOTH = ("KSampler", "own")


@pytest.fixture(scope="module", params=["V5.1", "V5"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def found(comfy_python, version):
    return run_script(comfy_python, "hooks.py", f"EasyAnimate{version}-7b-zh")


@pytest.mark.parametrize("sampler", BOTH)
def test_each_context_window_has_a_step_cache_of_its_own(found, sampler):
    cache = found[f"cache {sampler}"]
    assert cache["skipped"] >= 2
    assert cache["off"] <= SAME
    assert cache["denoised off"] <= SAME
    assert cache["finite"]
    # Newer releases of ComfyUI put one frame more before a window that does not begin the video.
    assert cache["lengths"] in ([3], [3, 4])


def test_the_samplers_step_cache_is_easy_cache_in_windows_too(found):
    assert found["widget"] == 0


def test_lazy_cache_runs_with_context_windows(found):
    assert [found[f"lazy {sampler}"] for sampler in BOTH] == [True, True]


def test_a_batch_may_be_cached(found):
    assert found["cache batch"]


def test_two_step_caches_are_refused(found):
    kind, message = found["two caches"]
    assert kind == "InputError"
    assert "Set step_cache to 0 or remove that node" in message


def test_context_windows_over_another_dimension_are_named(found):
    (said,) = found["windows of dim 0"]
    assert "Set dim to 2" in said


@pytest.mark.parametrize(
    "hook",
    [
        "attn1_patch",
        "attn1_output_patch",
        "double_block",
        "post_input",
        "optimized_attention_override",
        "rope_options",
    ],
)
def test_a_hook_has_an_effect_on_both_samplers(found, hook):
    for sampler in BOTH:
        assert found[hook][sampler] > MOVED
        assert found[hook][f"{sampler} said"] == []


def test_hooks_are_told_the_block_and_the_video_tokens(found):
    index, (start, end), tokens = found["told"][0]
    assert [entry[0] for entry in found["told"]] == [0, 1, 2]
    assert index == 0
    assert end == tokens
    assert end - start == 3 * 4 * 4  # three latent frames of 8 x 8, in patches of 2 x 2
    assert found["told override"] == [0, 1, 2, 0]


def test_positions_that_are_not_scaled_stay(found):
    assert found["rope unchanged"] <= SAME


def test_nag_is_its_formula_in_the_attention_of_every_block(found, version):
    if "NAG" not in found:
        pytest.skip("this ComfyUI has no NAGuidance")
    for sampler in BOTH:
        assert found["NAG"][sampler] > MOVED
        assert found["NAG"][f"{sampler} said"] == []
    if version == "V5.1":
        assert found["NAG by hand"] <= SAME
    assert found["NAG batch"] <= 1e-3


def test_nag_with_one_prompt_at_a_time_is_named_once(found):
    if "NAG" not in found:
        pytest.skip("this ComfyUI has no NAGuidance")
    (said,) = found["NAG alone"]
    assert "NAGuidance (nodes_nag)" in said
    assert "one after the other" in said


@pytest.mark.parametrize(
    ("run", "node"),
    [
        ("PAG", "PerturbedAttentionGuidance (nodes_pag) has no effect through attn1 of middle 0"),
        ("SAG", "SelfAttentionGuidance (nodes_sag) has no effect"),
        ("HyperTile", "HyperTile (nodes_hypertile) has no effect through attn1_patch, attn1_out"),
        ("ToMe", "TomePatchModel (nodes_tomesd) has no effect through attn1_patch, attn1_output"),
        ("Downscale", "PatchModelAddDownscale (nodes_model_downscale) has no effect"),
    ],
)
def test_a_unet_patch_is_named_once_in_a_run(found, run, node):
    for sampler in BOTH:
        (said,) = found[run][f"{sampler} said"]
        assert node in said
        assert found[run][sampler] <= 1e-3  # PAG multiplies what the second run rounds elsewhere


def test_a_controlnet_is_named(found):
    (said,) = found["ControlNet"]
    assert "the ControlNet has no effect" in said


def test_each_run_warns_anew(found):
    assert len(found["two runs"]) == 2


def test_layers_that_do_not_exist_are_named(found):
    (said,) = found["SLG"]["KSampler said"]
    assert "double_block 7, double_block 8" in said
    assert "its blocks are double_block 0 to 2" in said


@pytest.mark.parametrize("node", ["FreeU", "FreeU_V2"])
def test_free_u_is_refused(found, node):
    kind, message = found[node]
    assert kind == "InputError"
    assert "made for UNets" in message


@pytest.mark.parametrize("sampler", BOTH)
def test_renorm_cfg_guides_all_channels_of_the_latents(found, sampler):
    assert found[f"Renorm plain {sampler}"][0] <= 1e-3
    by_hand, moved = found[f"Renorm norm {sampler}"]
    assert by_hand <= 1e-3
    assert moved > MOVED


def test_a_replaced_schedule_is_named(found, version):
    schedules = found["schedules"]
    allowed = {"V5.1": {"SD3", "NoiseScale 1"}, "V5": set()}[version]
    for name, error in schedules.items():
        if name in allowed:
            assert error is None, error
        else:
            kind, message = error
            assert kind == "InputError"
            assert f"Model{'NoiseScale' if name == 'NoiseScale' else 'Sampling'}" in message
            assert "has replaced the model's noise schedule" in message
            assert "KSampler" in message
    assert schedules["Flux"][1].startswith("ModelSamplingFlux (nodes_model_advanced)")
    assert schedules["AuraFlow"][1].startswith("ModelSamplingAuraFlow")


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("patch list", "holds 'x' for 'attn1_output_patch'"),
        ("patch", "holds [None] for 'double_block'"),
        ("replacements", "for 'dit'"),
        ("output none", "returned None; it has to return a tensor of shape"),
        ("output shape", "it has to return a tensor of shape"),
        (
            "attention tuple",
            "returned a tuple; it has to return a dictionary of q, k, v and attn_mask",
        ),
        ("block none", "called as double_block 0, returned None"),
        ("block shape", "it has to return a dictionary of img"),
        ("block key", "failed: KeyError: 'attention_mask'"),
        ("other width", "It may be made for another model"),
    ],
)
def test_a_wrong_patch_is_explained(found, case, said):
    kind, message = found["errors"][case]
    assert kind == "InputError"
    assert said in message
