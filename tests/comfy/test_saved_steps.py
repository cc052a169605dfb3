"""The pack's step cache in ComfyUI's samplers and in its own."""

import pytest

from tests.comfy.findings import run_script

#: Differences of latents whose standard deviation is about 2.
SAME, MOVED = 1e-4, 1e-2


@pytest.fixture(scope="module", params=["V5.1", "V5"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def found(comfy_python, version):
    return run_script(comfy_python, "saved_steps.py", f"EasyAnimate{version}-7b-zh-InP")


def test_ksampler_leaves_out_half_of_the_steps_and_says_so(found):
    rows, moved, said = found["half"]
    assert rows == 2 * 4
    assert moved > MOVED
    assert said == ["EasyAnimate: the step cache left out 4 of 8 predictions."]


def test_nothing_of_a_run_is_left_to_the_next(found):
    assert found["again"] == 0
    assert found["after another size"] == 0


def test_the_negative_prompt_is_evaluated_in_its_window(found):
    rows, said = found["window"]
    assert rows == 2 * 2 + 2
    assert said == [
        "EasyAnimate: the step cache left out 4 of 8 predictions, and the negative prompt in 2 "
        "more."
    ]
    assert found["no window"] <= SAME


def test_off_gives_the_same_bits(found):
    assert found["off"] == 0


@pytest.mark.parametrize(
    "sampler", ["euler_ancestral", "dpmpp_2m", "uni_pc", "dpm_2", "lcm", "deis"]
)
def test_every_sampler_runs(found, sampler):
    assert found["samplers"][sampler]


def test_the_samplers_widget_is_the_node_is_ksampler(found, version):
    moved, ksampler, widget = found["own"]
    assert moved > MOVED
    assert widget == 0
    if version == "V5.1":  # where both samplers walk the same schedule
        assert ksampler <= 1e-3  # the schedules differ by rounding, which left-out steps continue
    assert found["rescale and window"]


def test_context_windows_are_left_out_together(found):
    saved, every, finite = found["windows"]
    assert saved * 2 == every
    assert finite


def test_a_batch(found):
    assert found["batch"]


@pytest.mark.parametrize("case", ["twice", "after EasyCache"])
def test_two_step_caches_are_refused(found, case):
    kind, message = found["errors"][case]
    assert kind == "InputError"
    assert "already has a step cache" in message


def test_the_easycache_widget_is_refused_beside_the_node(found):
    kind, message = found["errors"]["before the widget"]
    assert kind == "InputError"
    assert "already has a step cache" in message


def test_a_guider_with_guidance_of_its_own_has_no_window(found):
    kind, message = found["errors"]["DualCFGGuider"]
    assert kind == "InputError"
    assert "Set guidance_window to 1" in message
