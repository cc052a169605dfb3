"""Several processes of one run: one speaks, all end, and what one misses is known to all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from easyanimate_core.models.specs import Head
from tests.factories import V5_1
from tests.training_runs import losses, settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise on Windows"),
]
ROOT = Path(__file__).parents[2]
RUN = {
    "run__steps": 5, "run__save_every": 100, "data__synthetic__count": 8,
    "model__lora": {"rank": 2, "alpha": 2},
}  # fmt: skip
#: Does something to one of the processes after its third step, or to what it reads.
DRIVER = """
import os, signal, sys, time
deed, rank = sys.argv[1], os.environ["RANK"]
if deed.startswith("fsdp "):
    from tests.sharded_on_cpu import _start
    _start("fsdp")
from easyanimate_core.cli.main import main
from easyanimate_core.errors import MediaError
from easyanimate_core.training.strategies.denoiser import DenoiserStrategy, _Reading
from easyanimate_core.training.trainer import Trainer

DEEDS = {
    "0 Ctrl-C in the terminal": lambda: os.killpg(0, signal.SIGINT),
    "0 SIGTERM to the launcher": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "1 SIGTERM to one process": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "1 SIGKILL to one process": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
step = Trainer._step

def then(self, *given):
    done = step(self, *given)
    self.count = getattr(self, "count", 0) + 1
    if self.count == 3 and deed in DEEDS and deed[0] == rank:
        DEEDS[deed]()
        time.sleep(1)  # a launcher sends on what it has been sent
    return done

Trainer._step = then
streams, content = _Reading._streams, DenoiserStrategy._content_of

def missing(self, draw):
    if draw.index == 0 and rank == "1":
        raise MediaError("clip 0 is gone.")
    return streams(self, draw)

def unreadable(self, number, *given):
    if number == 0 and rank == "1":
        raise MediaError("held-out clip 0 is gone.")
    return content(self, number, *given)

if deed == "a clip of one process":
    _Reading._streams = missing
if deed == "fsdp a held-out clip of one process":
    DenoiserStrategy._content_of = unreadable
sys.exit(main(["train", *sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


def launch(path, deed, name, *options, **changes):
    """Two processes; returns their output folder, what they print, and whether they succeed."""
    (path / "driver.py").write_text(DRIVER, encoding="utf-8")
    file = path / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings(path / name, **{**RUN, **changes})), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         str(path / "driver.py"), deed, str(file), *options],
        cwd=ROOT, capture_output=True, text=True, check=False, start_new_session=True, timeout=600,
        env={
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
            **({} if deed.startswith("fsdp ") else {"ACCELERATE_USE_CPU": "true"}),
        },
        # Background jobs of a shell, and so their children, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    said = done.stdout + done.stderr
    # The launcher has a traceback of its own.
    assert "[rank" not in said, said[-6000:]
    assert "terminate called" not in said
    return path / name, said, done.returncode == 0


def lora(output):
    (file,) = (output / "result").rglob("*.safetensors")
    return file.read_bytes()


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run that nothing happens to."""
    output, said, succeeds = launch(
        tmp_path_factory.mktemp("whole"), "nothing", "whole", checkpoint=folder
    )
    assert succeeds
    assert said.count("What will be trained") == 1
    return output


@pytest.mark.parametrize(
    "deed", ["0 Ctrl-C in the terminal", "0 SIGTERM to the launcher", "1 SIGTERM to one process"]
)
def test_all_stop_after_the_same_step(folder, tmp_path, whole, deed):
    output, said, succeeds = launch(tmp_path, deed, "run", checkpoint=folder)
    assert not succeeds
    assert said.count("Stopped") == 1
    assert "Stopped. Step 3 of 5 is finished and saved in " in said
    assert [path.name for path in (output / "loras").iterdir()] == ["lora-00000003.safetensors"]
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step-00000003"]
    _, said, succeeds = launch(tmp_path, "nothing", "run", checkpoint=folder)
    assert succeeds
    assert said.count("Resuming after step 3") == 1
    assert lora(output) == lora(whole)
    assert losses(output) == losses(whole)


@pytest.mark.parametrize(
    ("deed", "changes", "message"),
    [
        ("nothing", {"run__stepz": 5}, "run.stepz is unknown"),
        ("nothing", {"seed": 9}, "contains a run with other settings: seed was 3 and is 9"),
        ("nothing", {"data__tokens": [2], "data__frames": [1]}, "A synthetic clip has 5 frames"),
        (
            "nothing",
            {"optimizer__learning_rate": 1e30, "run__steps": 60},
            "training has diverged",
        ),
    ],
)
def test_one_says_why_all_end(folder, tmp_path, deed, changes, message):
    if "seed" in changes:
        launch(tmp_path, "nothing", "run", checkpoint=folder, run__steps=1)
    _, said, succeeds = launch(tmp_path, deed, "run", **{"checkpoint": folder, **changes})
    assert not succeeds
    assert said.count("error: ") == 1
    assert message in said


def test_one_that_is_killed_ends_the_others(folder, tmp_path):
    _, said, succeeds = launch(tmp_path, "1 SIGKILL to one process", "run", checkpoint=folder)
    assert not succeeds
    # The launcher may be quicker to end them.
    told = "Another process of this run was ended from outside"
    assert said.count(told) + said.count("Stopped. No partial file was left.") == 1


def test_a_clip_that_one_process_misses_is_told_and_counted_once(folder, tmp_path):
    deed = "a clip of one process"
    _, said, succeeds = launch(tmp_path, deed, "run", checkpoint=folder, run__steps=12)
    assert succeeds
    assert said.count("a clip can no longer be read and is skipped: clip 0 is gone.") == 1
    assert said.count("1 clip became unreadable during the run") == 1


def test_a_held_out_clip_that_one_process_misses_is_measured_by_none(folder, tmp_path):
    """What they run together would otherwise not be the same."""
    output, said, succeeds = launch(
        tmp_path, "fsdp a held-out clip of one process", "run", checkpoint=folder,
        run__validate_every=2, validation={"clips": 2, "videos": 2, "steps": 2},
    )  # fmt: skip
    assert succeeds
    assert said.count("validation_loss") == 3
    assert list(losses(output)) == [1, 2, 3, 4, 5]
    assert said.count("1 clip became unreadable during the run") == 1
