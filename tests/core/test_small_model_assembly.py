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
from easyanimate_core.models.specs import Head
from easyanimate_core.small_model import (
    FOLDER,
    SUBFOLDERS,
    TEXT_PARTS,
    small_checkpoint,
    weights_folder,
)
from tests.factories import SMALL_VERSIONS, V5, V5_1, needs_small_model
from tools.small_model.assemble import RUNS, assemble

ROOT = Path(__file__).parents[2]
LORAS = "loras/"
OLD = {
    "vae/old.txt": b"old",
    "notes.txt": b"kept",
    "v5/vae/old.txt": b"other",
    f"{LORAS}few.txt": b"learned",
}

pytestmark = needs_small_model(V5_1)


@pytest.fixture
def weights(tmp_path):
    """A folder of old weights."""
    for name, content in OLD.items():
        file = tmp_path / "weights" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "weights"


@pytest.fixture
def runs_of(tmp_path):
    """`runs_of(version)`: what the training runs leave, made of the committed weights."""

    def make(version):
        folder, of = tmp_path / "runs", RUNS[version]
        for part in TEXT_PARTS[version]:
            shutil.copytree(weights_folder(version) / part, folder / of.text / part)
        shutil.copytree(small_checkpoint(Head.INPAINT, version) / "vae", folder / of.vae_folder)
        for head in of.heads:
            transformer = weights_folder(version) / f"transformer-{head.value}"
            shutil.copytree(transformer, folder / of.transformer_folder(head))
        return folder

    return make


@pytest.fixture
def runs(runs_of):
    return runs_of(V5_1)


def content_of(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("version", SMALL_VERSIONS)
def test_whole_runs_replace_the_old_weights(runs_of, weights, version):
    """Those of one version; the other's and the LoRAs stay."""
    assemble(runs_of(version), version, weights)
    made = content_of(weights)
    inner = f"{SUBFOLDERS[V5]}/"
    parts = {name for name in made if not name.startswith(LORAS)}
    new = {name for name in parts if name.startswith(inner) == (version is V5)}
    prefix = len(inner) if version is V5 else 0
    committed = {
        file.relative_to(weights_folder(version)).as_posix()
        for part in weights_folder(version).iterdir()
        if part.name not in (SUBFOLDERS[V5], LORAS[:-1])
        for file in part.rglob("*")
        if file.is_file()
    }
    assert {name[prefix:] for name in new} == committed
    kept = {
        name: text
        for name, text in OLD.items()
        if name.startswith(LORAS) or name.startswith(inner) != (version is V5)
    }
    assert {name: made[name] for name in made.keys() - new} == kept


def test_an_incomplete_folder_is_named_and_changes_nothing(runs, weights):
    shutil.rmtree(runs / "camera")
    (runs / RUNS[V5_1].vae_folder / "config.json").unlink()
    shutil.rmtree(runs / "text" / "tokenizer")
    with pytest.raises(InputError) as error:
        assemble(runs, V5_1, weights)
    for name in ("camera", "vae_looks/result/vae/config.json", "text/tokenizer"):
        assert str(Path(name)) in str(error.value)
    assert content_of(weights) == OLD


def test_a_damaged_file_changes_nothing(runs, weights):
    file = next((runs / "camera" / "result" / "transformer").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError):
        assemble(runs, V5_1, weights)
    assert content_of(weights) == OLD
    assert sorted(path.name for path in weights.parent.iterdir()) == ["runs", "weights"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_kill_in_between_leaves_the_old_weights(runs, weights):
    script = (
        "import sys\nfrom pathlib import Path\nfrom tools.small_model.assemble import *\n"
        "assemble(Path(sys.argv[1]), Version.V5_1, Path(sys.argv[2]))\n"
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


@pytest.mark.parametrize(
    ("options", "text"), [([], "text"), (["--version", "v5"], "v5_text")], ids=["V5.1", "V5"]
)
def test_the_command_says_it_in_a_line(options, text):
    before = content_of(FOLDER)
    run = subprocess.run(
        [sys.executable, "-m", "tools.small_model.assemble", "no such folder", *options],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("error: no such folder is incomplete: " + str(Path(text, "t")))
    assert run.stderr.count("\n") == 1
    assert content_of(FOLDER) == before
