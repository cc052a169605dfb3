"""The benchmark of a card goes all its ways on a CPU, with a tiny model."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu_suite(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_suite")


@pytest.mark.slow
def test_every_part_is_measured(gpu_suite, tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    options = ["--device", "cpu", "--repeats", "1", "--minutes", "60", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["gpu_suite.py", *options])
    gpu_suite.main()
    results = json.loads(file.read_text())["results"]
    assert results.pop("device") == "cpu"
    assert set(results) == {"bound tiny", "step tiny", "parity", "streaming", "vae",
                            "compiled tiny"}  # fmt: skip
    assert not [row for row in results.values() if {"failed", "skipped"} & row.keys()]
    assert all(row["holds"] for row in results["parity"].values())
    assert {"transformer/v5.1_t2v torch.bfloat16", "vae/v5 torch.float32"} <= set(results["parity"])
    step = results["step tiny"]
    assert step["diffusers"]["difference"] < 0.02
    assert {"attention pytorch", "qfloat8", "qint8", "planned_bytes"} <= set(step)
    assert {"flash", "cudnn", "flash3", "sage"} <= set(step["notes"])
    assert 0 <= results["streaming"]["hidden"] <= 1
    assert sum(results["bound tiny"]["step_tflop"].values()) > 0


@pytest.mark.slow
def test_a_missing_peer_and_a_failure_are_noted(gpu_suite, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    suite = gpu_suite.suite_of(torch.device("cpu"), 1, tmp_path)
    with torch.inference_mode():
        row = gpu_suite.steps(suite, suite.models["tiny"])
    assert row["notes"]["diffusers"].startswith("not installed")
    assert "diffusers" not in row

    def out_of_memory(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu_suite, "parity", out_of_memory)
    for name in ("steps", "compiled_steps", "streaming", "vae", "bound"):
        monkeypatch.setattr(gpu_suite, name, lambda *_: {})
    arguments = gpu_suite.parser("of a test").parse_args([])
    arguments.minutes = 60
    results = gpu_suite.measured(suite, arguments, gpu_suite.time.monotonic())
    assert results["parity"] == {"failed": "OutOfMemoryError: CUDA out of memory"}
    arguments.minutes = 0
    late = gpu_suite.measured(suite, arguments, gpu_suite.time.monotonic() - 1)
    assert all("skipped" in row for name, row in late.items() if name != "device")
