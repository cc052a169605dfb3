"""The memory plan inside ComfyUI, and the nodes that take it."""

import pytest

from tests.comfy.findings import run_script


@pytest.fixture(scope="module")
def found(comfy_python):
    return run_script(comfy_python, "planning.py")


def test_a_run_on_this_machine_is_planned(found):
    fits, report = found["cpu"]
    assert fits
    assert "on the CPU, with 8.0 GB of memory" in report
    assert "The nodes: weight_dtype default, text_device default, text_dtype default" in report


def test_what_does_not_fit_is_refused_or_only_said(found):
    kind, message = found["refused"]
    assert kind == "InputError"
    assert "It does not fit: even with every saving" in message
    assert "Turn refuse off" in message
    assert found["only said"] is False


def test_the_language_model_that_writes_is_counted_when_asked(found):
    assert found["writes"] == [False, True]


def test_the_loader_fills_in_what_says_default(found):
    weights, device, text = found["filled"]
    assert weights == "scaled fp8 (e4m3)"
    assert device == "cpu"
    assert text == "scaled int8"
    assert found["kept"] == ["bf16", "cpu", "scaled int8"]
    assert "float8_e4m3fn" in found["loaded as"]


def test_the_sampler_takes_one_prompt_at_a_time(found):
    assert found["one at a time"]
    assert found["rows"] == [[2], [1]]
    assert found["same"] <= 1e-4


def test_the_decoder_takes_the_plans_tiles(found):
    assert found["tile"] == 256
    assert found["same frames"]


def test_the_model_tells_comfyui_what_a_batch_takes(found):
    one, two = found["required"]
    assert 0.8 * two < 2 * one < two  # a part of a single row's tokens needs no copy
    assert found["required by a node"] == [two, two]
