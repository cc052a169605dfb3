"""Every mode in ComfyUI gives what the core gives for the same seed."""

import pytest

from tests.comfy.findings import run_script

#: Largest difference of latents. They have a standard deviation of about 2; what is measured is a
#: hundredth of this or less.
TOLERANCE = 1e-3

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


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "modes.py")


@pytest.mark.parametrize("mode", MODES)
def test_sampler_gives_what_the_core_gives(found, mode):
    assert found[mode] <= TOLERANCE


@pytest.mark.parametrize("mode", ["ksampler", "start end ksampler"])
def test_ksampler_euler_normal_is_flow(found, mode):
    assert found[mode] <= TOLERANCE


def test_every_difference_is_looked_at(found):
    assert set(found) == {*MODES, "ksampler", "start end ksampler"}
