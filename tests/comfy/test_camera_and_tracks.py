"""Nodes of camera paths and of tracks in a real ComfyUI."""

import pytest

from tests.comfy.findings import run_script

PICTURE = [1, 580, 1032, 3]


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "camera_and_tracks.py")


def test_a_path_in_the_original_timing_is_the_named_move(found):
    assert found["same as the named move"] == 0
    assert found["exact timing"] == 0
    assert found["timings differ"] > 0.01


def test_camera_shows_a_preview_after_its_old_outputs(found):
    assert found["outputs"] == ["list", "list", "dict", "str", "Tensor"]
    assert found["camera preview"] == PICTURE
    assert found["preview follows"] > 0.1


def test_paths_are_joined_and_combined(found):
    assert found["joined"] < 1e-6
    assert found["combined"] == 0


def test_text_and_keyframes(found):
    assert found["file"] < 1e-8
    assert found["poses"] < 1e-6
    assert found["keyframes"] == [49, *PICTURE]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("both", "There are both poses and a camera_path"),
        ("speed", "it scales moves, while poses are used unchanged"),
        ("timing", "The exact timing is for moves"),
        ("short", "has 5 poses; 9 were requested"),
        ("lengths", "have 5 and 9 poses"),
        ("nothing", "either poses or a camera_path"),
        ("two", "either poses or a camera_path"),
        ("keyframe", "The last keyframe is at frame 99"),
    ],
)
def test_what_does_not_fit_is_refused(found, case, message):
    kind, text = found["refused"][case]
    assert kind == "InputError"
    assert message in text


def test_tracks_with_times_and_hidden_parts(found):
    """Hidden from the middle (frame 4) up to three quarters (frame 6)."""
    assert found["visible"] == [True] * 4 + [False] * 2 + [True] * 3
    assert found["track outputs"] == ["list", "list", "dict", "Tensor", "str", "Tensor"]
    assert found["track previews"] == [[9, 64, 96, 3], [1, 64, 96, 3]]
    assert found["over the reference"] > 0.1
    assert "increase from point to point" in found["a bad time"][1]
