"""The committed weights are replaced by whole ones, or stay as they are."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.small_model import FOLDER
from tools.small_model.assemble import RUNS, TEXT_PARTS, VAE, assemble

ROOT = Path(__file__).parents[2]
OLD = {"vae/old.txt": b"old", "notes.txt": b"kept"}


@pytest.fixture
def weights(tmp_path):
    """A folder of old weights."""
    for name, content in OLD.items():
        file = tmp_path / "weights" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "weights"


@pytest.fixture
def runs(tmp_path):
    """What the training runs leave, made of the committed weights."""
    for part in TEXT_PARTS:
        shutil.copytree(FOLDER / part, tmp_path / "runs" / "text" / part)
    shutil.copytree(FOLDER / "vae", tmp_path / "runs" / VAE)
    for run, head in RUNS.items():
        folder = tmp_path / "runs" / run / "result" / "transformer"
        shutil.copytree(FOLDER / f"transformer-{head}", folder)
    return tmp_path / "runs"


def content_of(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
def test_whole_runs_replace_the_old_weights(runs, weights):
    assemble(runs, weights)
    made = content_of(weights)
    assert made.keys() == content_of(FOLDER).keys()
    assert not made.keys() & OLD.keys()


def test_an_incomplete_folder_is_named_and_changes_nothing(runs, weights):
    shutil.rmtree(runs / "camera")
    (runs / VAE / "config.json").unlink()
    shutil.rmtree(runs / "text" / "tokenizer")
    with pytest.raises(InputError) as error:
        assemble(runs, weights)
    for name in ("camera", "vae_looks/result/vae/config.json", "text/tokenizer"):
        assert str(Path(name)) in str(error.value)
    assert content_of(weights) == OLD


def test_a_damaged_file_changes_nothing(runs, weights):
    file = next((runs / "camera" / "result" / "transformer").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError):
        assemble(runs, weights)
    assert content_of(weights) == OLD
    assert sorted(path.name for path in weights.parent.iterdir()) == ["runs", "weights"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_kill_in_between_leaves_the_old_weights(runs, weights):
    script = (
        "import sys\nfrom pathlib import Path\nfrom tools.small_model.assemble import assemble\n"
        "assemble(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, runs, weights], cwd=ROOT) as process:
        deadline = time.monotonic() + 120
        while not list(weights.parent.glob(".weights.*/vae")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert content_of(weights) == OLD


def test_the_command_says_it_in_a_line():
    before = content_of(FOLDER)
    run = subprocess.run(
        [sys.executable, "-m", "tools.small_model.assemble", "no such folder"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("error: no such folder is incomplete")
    assert run.stderr.count("\n") == 1
    assert content_of(FOLDER) == before
