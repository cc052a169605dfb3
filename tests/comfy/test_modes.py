"""Every mode in ComfyUI gives what the core gives for the same seed."""

import pytest

from tests.comfy.findings import run_script

#: Largest difference of latents. They have a standard deviation of about 2; what is measured is a
#: hundredth of this or less.
TOLERANCE = 1e-3
#: The same of samplers that begin with a sigma of 4,500 where the signal is zero.
ZERO_SNR_TOLERANCE = 0.02

MODES = (
    "text",
    "text InP",
    "text rescale",
    "start",
    "start end",
    "keyframes",
    "region",
    "region beside",
    "region drifting",
    "control",
    "control reference",
    "camera",
    "trajectory",
    "video",
    "V5 Euler",
    "V5 Euler A",
    "V5 DPM++",
    "V5 PNDM",
    "V5 DDIM",
    "V5 start",
    "V5 start DPM++",
    "V5 control",
    "V5 video",
)
V5_KSAMPLER = ("V5 Euler ksampler", "V5 DPM++ ksampler", "V5 DDIM ksampler")


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "modes.py")


@pytest.mark.parametrize("mode", MODES)
def test_sampler_gives_what_the_core_gives(found, mode):
    assert found[mode] <= TOLERANCE


@pytest.mark.parametrize("mode", ["ksampler", "start end ksampler"])
def test_ksampler_euler_normal_is_flow(found, mode):
    assert found[mode] <= TOLERANCE


@pytest.mark.parametrize("mode", V5_KSAMPLER)
def test_ksampler_simple_has_the_schedulers_of_v5(found, mode):
    assert found[mode] <= ZERO_SNR_TOLERANCE


def test_every_difference_is_looked_at(found):
    assert set(found) == {*MODES, *V5_KSAMPLER, "ksampler", "start end ksampler"}
