"""A run that was stopped goes on as if it had not been; what is half written is no state."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.training.checkpoints import Checkpoints
from easyanimate_core.training.run import run_training
from easyanimate_core.training.tracking import read_log
from tests.factories import V5_1
from tests.training_runs import config, losses, settings, train

ROOT = Path(__file__).parents[2]

#: Trains and is killed by the system after its sixth step, two steps after its last state.
KILLED = """
import os, signal, sys
from pathlib import Path
from easyanimate_core.training.config import read_config
from easyanimate_core.training.run import run_training
from easyanimate_core.training.tracking import read_log

def progress(stage, done, total):
    if (stage, done) == ("train", 6):
        os.kill(os.getpid(), signal.SIGKILL)

run_training(read_config(Path(sys.argv[1])), progress=progress)
"""

RUN = {"run__steps": 8, "run__save_every": 4}


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


def weights(output):
    return load_file(next((output / "result" / "transformer").glob("*.safetensors")))


EIGHT_BITS = pytest.param(
    "adamw8bit",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("bitsandbytes") is None,
        reason="the package bitsandbytes is not installed",
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon", EIGHT_BITS])
def test_a_killed_run_goes_on_with_the_same_losses(folder, tmp_path, optimizer):
    changes = {
        **RUN, "run__ema": 0.9, "optimizer__schedule": "cosine", "optimizer__kind": optimizer,
    }  # fmt: skip
    train(tmp_path / "whole", folder, **changes)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path / "killed", folder, **changes)))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    assert list(losses(tmp_path / "killed")) == [1, 2, 3, 4, 5]  # told, and killed before the log
    assert not (tmp_path / "killed" / "result").exists()
    train(tmp_path / "killed", folder, **changes)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(tmp_path / "killed")[name]), name


def test_an_exception_from_the_progress_stops_the_run_and_it_goes_on(folder, tmp_path):
    lora = {"model__lora": {"rank": 2, "alpha": 2.0}}
    train(tmp_path / "whole", folder, **RUN, **lora)

    def cancel(stage, done, _total):
        if (stage, done) == ("train", 5):
            raise KeyboardInterrupt

    wanted = config(tmp_path / "stopped", folder, **RUN, **lora)
    with pytest.raises(KeyboardInterrupt):
        run_training(wanted, progress=cancel, report=lambda _: None)
    assert not (tmp_path / "stopped" / "result").exists()
    said = []
    (result,) = run_training(wanted, report=said.append)
    assert "Resuming after step 5." in said
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    ours, whole = load_file(result), load_file(tmp_path / "whole" / "result" / "lora.safetensors")
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_a_figure_that_a_stop_cut_off_is_made_up_for(folder, tmp_path):
    lora = {"model__lora": {"rank": 2, "alpha": 2.0}}
    measured = RUN | {"run__validate_every": 2, "validation__videos": 0}
    train(tmp_path / "whole", folder, **measured, **lora)

    def cancel(stage, done, _total):
        if (stage, done) == ("train", 4):
            raise KeyboardInterrupt

    wanted = config(tmp_path / "stopped", folder, **measured, **lora)
    with pytest.raises(KeyboardInterrupt):
        run_training(wanted, progress=cancel, report=lambda _: None)
    run_training(wanted, report=lambda _: None)
    logs = [
        {
            (row["step"], name): value
            for row in read_log(tmp_path / run / "log.jsonl")
            for name, value in row.items()
            if name.startswith("validation_")
        }
        for run in ("whole", "stopped")
    ]
    assert {step for step, _ in logs[0]} >= {2, 4, 6}
    assert logs[0] == logs[1]


def test_a_state_of_a_lora_has_the_lora_alone(folder, tmp_path):
    train(tmp_path / "run", folder, model__lora={"rank": 2, "alpha": 2.0})
    (state,) = (tmp_path / "run" / "checkpoints").iterdir()
    kept = load_file(next(state.glob("*-weights.safetensors")))
    assert kept
    assert all(".lora." in name for name in kept)


def test_the_last_states_stay(folder, tmp_path):
    train(tmp_path / "run", folder, run__steps=5, run__save_every=1, run__keep=2)
    states = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert states == ["step-00000004", "step-00000005"]


def test_a_half_written_state_is_no_state(tmp_path):
    for name in (".step-00000008.part", "step-8", "step-00000004", "notes"):
        (tmp_path / name).mkdir()
    assert Checkpoints(tmp_path, keep=2).steps() == [4]
    assert Checkpoints(tmp_path / "nowhere", keep=2).steps() == []


def test_a_damaged_state_is_refused_with_the_remedy(folder, tmp_path):
    train(tmp_path / "run", folder)
    (state,) = (tmp_path / "run" / "checkpoints").iterdir()
    (file,) = state.glob("*-weights.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"step-00000002 cannot be read.*Delete this folder"):
        train(tmp_path / "run", folder, run__steps=4)


def test_a_finished_run_goes_on_when_it_is_given_more_steps(folder, tmp_path):
    train(tmp_path / "whole", folder, run__steps=4)
    train(tmp_path / "run", folder, run__steps=2)
    train(tmp_path / "run", folder, run__steps=4)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_other_settings_are_refused_in_the_same_folder(folder, tmp_path):
    train(tmp_path / "run", folder)
    with pytest.raises(InputError) as error:
        train(tmp_path / "run", folder, seed=4)
    assert "seed was 3 and is 4" in str(error.value)
    assert "--restart" in str(error.value)
    before = losses(tmp_path / "run")
    train(tmp_path / "run", folder, seed=4, restart=True)
    assert losses(tmp_path / "run") != before


def test_a_folder_with_something_else_is_refused(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and contains no run"):
        train(tmp_path, folder)
    assert (tmp_path / "notes.txt").read_text() == "mine"
