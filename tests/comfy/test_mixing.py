"""Several controls, pinned frames, strict mode."""

import pytest

from tests.comfy.findings import run_script

SAME = 1e-6


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "mixing.py")


def test_a_second_control_is_added_within_its_part_of_the_schedule(found):
    assert found["parts"] == [[0.0, 0.5], [0.5, 1.0]]
    assert found["early"] <= SAME
    assert found["sum"] <= SAME


def test_a_control_alone_is_hidden_outside_its_part(found):
    hidden, shown = found["hidden"]
    assert hidden == 0
    assert shown > 0.1


def test_a_mask_divides_two_controls(found):
    assert found["left"] <= SAME
    assert found["right"] <= SAME


def test_the_reference_image_stays_in_every_part(found):
    assert found["reference kept"] == [True, True]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("two references", "the model takes one"),
        ("sizes", "Use the same size and length in both nodes"),
        ("kinds", "Only control videos can be mixed"),
        ("strict", "33% of the picture cropped"),
    ],
)
def test_what_cannot_be_mixed_is_explained(found, case, said):
    assert said in found[f"error {case}"][1]


def test_strict_lets_through_what_fits(found):
    assert found["strict fits"] == ""


@pytest.mark.parametrize("sampler", ["own", "KSampler"])
def test_pinned_frames_stay_and_the_others_are_sampled(found, sampler):
    start, middle, end = found[f"pinned {sampler}"]
    assert start <= 1e-5
    assert end <= 1e-5
    assert middle > 0.1
    assert found["pin start"] <= SAME
