"""A run that is resumed with something changed says so, goes on where it can, else refuses."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from easyanimate_core.errors import InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.small_model import list_name
from easyanimate_core.training.clips import Clips
from easyanimate_core.training.config import read_config
from easyanimate_core.training.data.listing import Listing
from easyanimate_core.training.data.records import Record
from easyanimate_core.training.run import run_training
from easyanimate_core.training.state.origin import Origin
from tests.factories import SMALL_VERSIONS, V5_1
from tests.training_runs import clips, config, losses, settings, train

ROOT = Path(__file__).parents[2]
LORA = {"model__lora": {"rank": 2, "alpha": 2.0}}


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A run of four steps with a state after each."""
    output = tmp_path_factory.mktemp("finished") / "run"
    train(output, folder, run__steps=4, run__save_every=1, run__keep=4, **LORA)
    return output


@pytest.fixture
def output(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def go_on(output, folder, records=None, **changes):
    """Resume the run; returns what it said."""
    said = []
    changes = {"run__save_every": 1, "run__keep": 4, **LORA, **changes}
    run_training(config(output, folder, **changes), records=records, report=said.append)
    return said


def rates(output):
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row["learning_rate"] for row in rows if "learning_rate" in row}


def record(name, content, *captions, repeats=1):
    return Record(content, captions or ("a cat",), 1, 16, 16, None, (), name, 0.0, repeats)


def test_a_digest_knows_contents_and_captions_but_neither_names_nor_order():
    one, two = record("a.png", "1"), record("b.png", "2")
    digest = Clips([one, two], []).digest
    assert Clips([record("c/b.png", "2"), record("c/a.png", "1")], [one]).digest == digest
    for other in (record("b.png", "3"), record("b.png", "2", "a dog"),
                  record("b.png", "2", repeats=2)):  # fmt: skip
        assert Clips([one, other], []).digest != digest
    assert Clips([one], []).digest != digest


def test_what_has_changed_in_the_data_is_counted_and_named():
    before = Listing.of([record(f"{n}.png", str(n)) for n in range(6)])
    now = Listing.of(
        [
            record("0.png", "0"),
            record("1.png", "1", "a dog"),
            record("2.png", "two"),
            record("moved/3.png", "3"),
            record("6.png", "6"),
            record("7.png", "7"),
        ]
    )
    assert now.changes_since(before) == (
        "2 clips added (6.png, 7.png), 2 clips removed (4.png, 5.png), 1 clip with other content "
        "(2.png), 1 clip with other captions or repeats (1.png) (6 before, 6 now)"
    )


def test_a_listing_outlives_its_file_and_one_that_is_damaged_is_not_believed(tmp_path):
    listing = Listing.of([record("a<|>ü.png", "1")])
    assert Listing.from_json(listing.to_json()) == listing
    now = Origin(Listing.of([record("b.png", "2")]), "")
    Origin(listing, "").write(tmp_path)
    assert "1 clip added (b.png), 1 clip removed" in now.changes_since(tmp_path, listing.digest)[0]
    for text in ("", "{}", "[[1]]", '[["1", "2", 3, 4]]', now.data.to_json(), "[" * 10**5):
        (tmp_path / "data.json").write_text(text)
        (said,) = now.changes_since(tmp_path, listing.digest)
        assert said == "The data has changed since the last state."
    assert now.changes_since(tmp_path, now.data.digest) == ()
    assert now.changes_since(tmp_path, "") == ()


def test_other_data_is_told_once_and_recorded(output, folder):
    before = clips()
    said = go_on(output, folder, [*before, *clips(seed=9, count=1)], run__steps=5)
    (line,) = [line for line in said if "data has changed" in line]
    assert "1 clip added (5 before" not in line
    assert "1 clip added (4 before, 5 now)" in line
    assert "after step 4: The data has changed" in (output / "history.log").read_text()
    said = go_on(output, folder, [*before, *clips(seed=9, count=1)], run__steps=6)
    assert not [line for line in said if "data has changed" in line]


def test_a_new_rate_acts_at_once_and_is_told(output, folder):
    said = go_on(output, folder, run__steps=6, optimizer__learning_rate=0.001)
    assert "note: optimizer.learning_rate was 0.01 and is 0.001." in said
    assert any("The learning rate is 0.001 from step 5 on" in line for line in said)
    # A row has the rate of the next step.
    assert {step: round(rate, 9) for step, rate in rates(output).items()} == {
        1: 0.01, 2: 0.01, 3: 0.01, 4: 0.01, 5: 0.001, 6: 0.001,
    }  # fmt: skip
    slow = losses(output)[6]
    go_on(output.with_name("other"), folder, run__steps=6)
    assert slow != losses(output.with_name("other"))[6]


def test_more_steps_of_a_falling_rate_tell_how_it_goes_on(folder, tmp_path):
    falling = {"optimizer__schedule": "linear"}
    go_on(tmp_path / "run", folder, run__steps=2, **falling)
    said = go_on(tmp_path / "run", folder, run__steps=4, **falling)
    assert "note: the linear schedule falls to zero at step 4, not at 2." in said
    assert any("The learning rate is 0.005 from step 3 on; with" in line for line in said)


def test_clip_decay_precision_and_sizes_may_change(output, folder):
    said = go_on(
        output, folder, run__steps=5, optimizer__clip=0.5, optimizer__weight_decay=0.0,
        optimizer__warmup=2, run__precision="bf16", run__gradient_checkpointing=True,
        data__tokens_per_batch=8,
    )  # fmt: skip
    assert "note: run.precision was 'no' and is 'bf16'." in said
    assert list(losses(output)) == [1, 2, 3, 4, 5]
    go_on(output, folder, run__steps=6)
    assert list(losses(output)) == [1, 2, 3, 4, 5, 6]


def test_fewer_steps_than_done_are_refused_with_the_number(output, folder):
    with pytest.raises(
        InputError, match=r"has done 4 steps and run.steps is 3.*Set run.steps to 4"
    ):
        go_on(output, folder, run__steps=3)


def test_a_run_goes_on_wherever_its_folders_are(output, folder, tmp_path, monkeypatch):
    moved = output.rename(tmp_path / "renamed")
    model = shutil.copytree(folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    said = go_on(Path("renamed"), Path("model"), run__steps=5)
    assert "Resuming after step 4." in said
    assert "Resuming after step 5." in go_on(moved, model, run__steps=6)


@pytest.mark.parametrize("in_place", [True, False])
def test_other_weights_are_refused(output, folder, tmp_path, in_place):
    model = shutil.copytree(folder, tmp_path / "model")
    if in_place:
        go_on(output, model, run__steps=5)
    file = next((model / "vae").glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    said = "another content" if in_place else "model.checkpoint was"
    with pytest.raises(InputError, match=said):
        go_on(output, model, run__steps=6)


def test_a_run_without_a_state_may_change_at_will(folder, tmp_path):
    train(tmp_path / "run", folder)
    for part in ("checkpoints", "result"):
        shutil.rmtree(tmp_path / "run" / part)
    go_on(tmp_path / "run", folder, seed=8)
    assert list(losses(tmp_path / "run")) == [1, 2]


def test_a_state_that_has_diverged_is_not_written_and_the_remedy_helps(output, folder):
    with pytest.raises(InputError, match="diverged") as error:
        go_on(output, folder, run__steps=9, optimizer__learning_rate=1e38, run__log_every=1)
    message = str(error.value)
    assert "Lower optimizer.learning_rate" in message
    assert "delete the last states" in message
    for state in sorted((output / "checkpoints").iterdir())[1:]:
        shutil.rmtree(state)
    said = go_on(output, folder, run__steps=9, optimizer__learning_rate=1e-4)
    assert "Resuming after step" in " ".join(said)
    assert losses(output)[9] < 100


def test_a_second_run_is_kept_out_and_a_killed_one_leaves_no_lock(output, folder):
    holds = (
        "import sys, time\nfrom pathlib import Path\n"
        "from easyanimate_core.training.claim import held\n"
        "with held(Path(sys.argv[1]), print):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(output)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        before = (output / "log.jsonl").read_bytes()
        with pytest.raises(InputError, match=rf"in use by another run \(process {other.pid} on"):
            go_on(output, folder, run__steps=5)
        assert (output / "log.jsonl").read_bytes() == before
        other.kill()
    assert "Resuming after step 4." in go_on(output, folder, run__steps=5)


def test_a_refused_run_leaves_no_folder(folder, tmp_path):
    with pytest.raises(InputError):
        go_on(tmp_path / "run", folder, [])
    assert not (tmp_path / "run").exists()


def test_a_restart_tells_what_it_deletes_and_deletes_nothing_without_consent(output, folder):
    asked = []
    wanted = config(output, folder, **LORA)
    with pytest.raises(InputError, match="nothing was deleted"):
        run_training(wanted, restart=True, confirm=asked.append, report=lambda _: None)
    assert "4 steps done; states after step 1, 2, 3, 4; its result; 0." in asked[0]
    assert len(list((output / "checkpoints").iterdir())) == 4
    run_training(wanted, restart=True, confirm=lambda _: True, report=lambda _: None)
    assert list(losses(output)) == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nMore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_is_told_with_what_is_kept(output, folder, error):
    def fail(stage, done, _total):
        if (stage, done) == ("train", 5):
            raise error

    wanted = config(output, folder, run__steps=6, run__save_every=1, run__keep=4, **LORA)
    with pytest.raises(InputError, match=r"gradient_checkpointing.*resumes after step 5") as told:
        run_training(wanted, progress=fail, report=lambda _: None)
    assert "\n" not in str(told.value)


def test_a_state_that_gives_no_finite_loss_is_set_aside_so_that_a_lower_rate_helps(
    folder, tmp_path
):
    wild = {"optimizer__learning_rate": 1e30, "optimizer__clip": 1e9}
    with pytest.raises(InputError, match=r"At step \d.* of no use and was renamed") as error:
        go_on(tmp_path / "run", folder, run__steps=9, run__log_every=1, **wild)
    assert "optimizer.learning_rate" in str(error.value)
    go_on(tmp_path / "run", folder, run__steps=9, optimizer__learning_rate=1e-4)
    assert all(loss < 100 for loss in losses(tmp_path / "run").values())


@pytest.mark.parametrize("version", SMALL_VERSIONS)
def test_a_built_in_model_is_taken_by_its_name(tmp_path, version):
    name = list_name(Head.INPAINT, version)
    changes = {"task": "inpaint", "data__tokens": [8], **LORA}
    (file,) = run_training(config(tmp_path / "run", name, **changes), report=lambda _: None)
    assert file.is_file()
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path / "run", name, **changes)))
    read = read_config(path, (f"model.checkpoint={name}",))  # without quotes, YAML reads a mapping
    assert str(read.model.checkpoint) == name
    with pytest.raises(InputError, match=r"there are 'small \(built in\): InP'"):
        config(tmp_path / "run", "small (built in): T2V")


def test_a_restart_needs_a_terminal_or_yes(output, folder, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(output, folder, **LORA)))
    command = [sys.executable, "-m", "easyanimate_core", "train", str(path), "--restart"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "4 steps done" in run.stderr
    assert run.stderr.strip().count("\n") == 0
    assert len(list((output / "checkpoints").iterdir())) == 4


def test_a_checkpoint_that_is_not_there_is_told_before_any_clip_is_read(tmp_path):
    with pytest.raises(
        InputError, match=r"no folder nowhere \(model.checkpoint\).*small \(built in"
    ):
        train(tmp_path / "run", "nowhere")
    assert not (tmp_path / "run").exists()


#: Starts over, and is killed by the system before the n-th renaming in its folder.
RESTARTED = """
import os, signal, sys
from pathlib import Path
from easyanimate_core.training.config import read_config
from easyanimate_core.training.run import run_training

number, output, seen = int(sys.argv[2]), sys.argv[3], []

def hook(event, arguments):
    if event == "os.rename" and str(arguments[0]).startswith(output + os.sep):
        seen.append(event)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
run_training(read_config(Path(sys.argv[1])), restart=True, report=lambda _: None)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("number", [2, 3, 5])
def test_a_kill_while_an_earlier_run_is_deleted_leaves_a_run_that_can_go_on(
    output, folder, tmp_path, number
):
    """Nothing of both runs is mixed, whether or not the states were gone."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(output, folder, run__steps=5, **LORA)))
    command = [sys.executable, "-c", RESTARTED, str(path), str(number), str(output)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    had_states = bool(list((output / "checkpoints").glob("step-*")))
    said = go_on(output, folder, run__steps=5)
    assert had_states == ("Resuming after step 4." in said)
    assert list(losses(output)) == [1, 2, 3, 4, 5]
    assert not list(output.glob(".*"))
