"""FSDP and DeepSpeed, which give each process a part of the weights, change no figure of a run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from easyanimate_core.models.specs import Head
from easyanimate_core.training.run import run_training
from tests.factories import V5_1
from tests.training_runs import config, losses, settings

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RUN = {
    "run__steps": 4, "run__save_every": 2, "run__validate_every": 2, "data__synthetic__count": 8,
}  # fmt: skip
TWO_STEPS = ("--set", "run.steps=2")
DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="the package deepspeed is not installed"
)
ZERO2, ZERO3 = (pytest.param(kind, marks=DEEPSPEED) for kind in ("zero2", "zero3"))


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


def launch(path, kind, output, *options, fails=False, **changes):
    """Two processes; returns what they print. `kind` None is plain data parallelism."""
    file = path / f"{output.name}.yaml"
    file.write_text(yaml.safe_dump(settings(output, **changes)))
    start = ["-m", "easyanimate_core", "train"]
    if kind is not None:
        start = ["tests/sharded_on_cpu.py", kind]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         *start, str(file), *options],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={
            **os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **({"ACCELERATE_USE_CPU": "true"} if kind is None else {}),
        },
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said[-4000:]
    return said


def validated(output):
    rows = [yaml.safe_load(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [row["validation_loss"] for row in rows if "validation_loss" in row]


def result(output):
    return load_file(next((output / "result").rglob("*.safetensors")))


def assert_same_run(one, other):
    assert losses(other) == pytest.approx(losses(one), rel=1e-4)
    assert validated(other) == pytest.approx(validated(one), rel=1e-4)
    expected, found = result(one), result(other)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=1e-4), name


@pytest.mark.parametrize("kind", ["fsdp", ZERO2])
def test_averaged_weights(folder, tmp_path, kind):
    """Of two steps and two more after a stop: the average is part of the state."""
    run = {**RUN, "checkpoint": folder, "run__ema": 0.9}
    launch(tmp_path, None, tmp_path / "plain", **run)
    launch(tmp_path, kind, tmp_path / "parts", *TWO_STEPS, **run)
    assert "Resuming after step 2" in launch(tmp_path, kind, tmp_path / "parts", **run)
    assert_same_run(tmp_path / "plain", tmp_path / "parts")
    assert len(list((tmp_path / "parts" / "validation").glob("*.png"))) == 2
    # What two processes have written is whole: one goes on with it.
    said = []
    more = {**run, "run__steps": 5, "run__validate_every": 0}
    run_training(config(tmp_path / "parts", **more), report=said.append)
    told = "Resuming after step 4. The state was written by 2 process(es)"
    assert any(line.startswith(told) for line in said)
    assert list(losses(tmp_path / "parts")) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["fsdp", ZERO2, ZERO3])
def test_a_lora(folder, tmp_path, kind):
    run = {
        **RUN, "checkpoint": folder, "model__lora": {"rank": 2, "alpha": 2},
        "run__gradient_checkpointing": True,
    }  # fmt: skip
    launch(tmp_path, None, tmp_path / "plain", **run)
    launch(tmp_path, kind, tmp_path / "parts", *TWO_STEPS, **run)
    launch(tmp_path, kind, tmp_path / "parts", **run)
    assert_same_run(tmp_path / "plain", tmp_path / "parts")
    assert max(tensor.abs().max() for name, tensor in result(tmp_path / "parts").items()
               if "lora_up" in name) > 1e-3  # fmt: skip


@pytest.mark.parametrize("kind", ["fsdp", ZERO2, ZERO3])
def test_bf16(folder, tmp_path, kind):
    """Weights are rounded, too, but not the timesteps."""
    run = {**RUN, "run__steps": 3, "run__precision": "bf16", "checkpoint": folder}
    launch(tmp_path, None, tmp_path / "plain", **run)
    launch(tmp_path, kind, tmp_path / "parts", **run)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "plain"), rel=0.01)
    assert validated(tmp_path / "parts") == pytest.approx(validated(tmp_path / "plain"), rel=0.01)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("fsdp1", {}, "Set fsdp_version to 2"),
        ("fsdp", {"task": "vae"}, "accelerate is configured for FSDP, which is for denoisers"),
        ("fsdp", {"optimizer__kind": "muon"}, "needs whole weights, but FSDP"),
        pytest.param("zero0", {}, "whose states cannot be saved. Use stage 2", marks=DEEPSPEED),
        pytest.param("zero3", {"run__ema": 0.9}, "set run.ema to 0", marks=DEEPSPEED),
    ],
)
def test_what_cannot_be_sharded_is_refused(folder, tmp_path, kind, changes, message):
    said = launch(tmp_path, kind, tmp_path / "run", fails=True, checkpoint=folder, **changes)
    assert message in " ".join(said.split())
