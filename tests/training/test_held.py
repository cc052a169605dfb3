"""Under Windows' rules of sharing: no file that another program holds ends or spoils a run."""

import json

import pytest

from easyanimate_core.cli.main import main
from easyanimate_core.errors import HeldError, MediaError
from easyanimate_core.files import moving
from easyanimate_core.files.leftovers import temporary_name
from easyanimate_core.models.specs import Head
from easyanimate_core.training.run import run_training
from tests.emulation import imitated
from tests.emulation.scanner import first_calls_fail, opened_alone
from tests.emulation.windows import emulated
from tests.factories import V5_1
from tests.training_runs import config, losses, settings, train

pytestmark = imitated

RUN = {
    "run__steps": 3,
    "run__save_every": 1,
    "run__keep": 1,
    "model__lora": {"rank": 2},
    "validation__videos": 0,
}


@pytest.fixture(autouse=True)
def windows(monkeypatch):
    """Three seconds are long for what is held for good."""
    monkeypatch.setattr(moving, "_WAITS", (0.01,))
    with emulated():
        yield


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


def told(output, folder, progress=lambda *_: None, **changes):
    """Run; what was said."""
    said = []
    wanted = config(output, folder, **{**RUN, **changes})
    run_training(wanted, report=said.append, progress=progress)
    return "\n".join(said)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_first_refusal_changes_nothing(folder, tmp_path):
    said = []
    for name in ("calm", "scanned"):
        if name == "calm":
            said.append(told(tmp_path / name, folder, run__steps=2))
        else:
            with first_calls_fail() as refused:
                said.append(told(tmp_path / name, folder, run__steps=2))
            assert {call[0] for call in refused} >= {"replace", "rename", "unlink", "rmdir"}
    assert losses(tmp_path / "calm") == losses(tmp_path / "scanned")
    assert names(tmp_path / "calm") == names(tmp_path / "scanned")
    assert "note" not in said[1]


def test_an_old_state_that_is_held_stays_and_the_run_goes_on(folder, tmp_path):
    opened = []

    def look(stage, done, _):
        if (stage, done) == ("train", 2):  # a step is saved after it is told
            state = tmp_path / "checkpoints" / "step-00000001"
            opened.append((state / "state.json").open())

    said = told(tmp_path, folder, look)
    assert "The old state" in said
    assert "step-00000001 cannot be removed (" in said
    assert names(tmp_path / "checkpoints") == ["step-00000001", "step-00000003"]
    opened[0].close()
    told(tmp_path, folder, run__steps=4)
    assert names(tmp_path / "checkpoints") == ["step-00000004"]


def test_a_result_that_is_held_stays_whole_beside_the_new_one(folder, tmp_path, capsys):
    (first,) = train(tmp_path, folder, **{**RUN, "run__steps": 1})
    before = first.read_bytes()
    longer = tmp_path.with_name("longer.json")
    longer.write_text(json.dumps(settings(tmp_path, folder, **RUN)))
    with first.open():
        assert main(["train", str(longer)]) == 2
    assert "The new folder is complete: it was saved as" in capsys.readouterr().err
    assert first.read_bytes() == before
    kept = tmp_path / "result-2" / first.name
    assert kept.read_bytes() != before
    assert (tmp_path / "curves.png").is_file()
    (last,) = train(tmp_path, folder, **RUN)
    assert last == first
    assert last.read_bytes() == kept.read_bytes()


def test_restart_deletes_all_or_nothing(folder, tmp_path):
    train(tmp_path, folder, **{**RUN, "run__steps": 1})
    before = sorted(tmp_path.rglob("*"))
    for held in ("result/lora.safetensors", "log.jsonl"):
        with (tmp_path / held).open(), pytest.raises(MediaError, match="Nothing was deleted"):
            train(tmp_path, folder, restart=True, **RUN)
        assert sorted(tmp_path.rglob("*")) == before
    train(tmp_path, folder, restart=True, **{**RUN, "run__steps": 1})
    assert list(losses(tmp_path)) == [1]


def test_rows_follow_when_the_table_is_closed(folder, tmp_path):
    table = opened_alone(tmp_path / "log.jsonl")

    def look(stage, done, _):
        if (stage, done) == ("train", 1):
            table.__enter__()
        if (stage, done) == ("train", 3):
            table.__exit__(None, None, None)

    said = told(tmp_path, folder, look, run__steps=4)
    assert said.count("its rows follow once it can") == 1
    assert list(losses(tmp_path)) == [1, 2, 3, 4]


def test_a_picture_that_is_shown_costs_no_step(folder, tmp_path):
    told(tmp_path, folder, run__steps=1, run__validate_every=1)
    with (tmp_path / "curves.png").open():
        said = told(tmp_path, folder, run__steps=2, run__validate_every=1)
    assert "curves.png cannot be written" in said
    assert list(losses(tmp_path)) == [1, 2]
    assert not list(tmp_path.glob("curves-*"))


def test_a_new_state_that_is_held_is_kept_and_the_run_goes_on(folder, tmp_path):
    opened = []

    def look(stage, done, _):
        if (stage, done) == ("train", 1):
            place = tmp_path / "checkpoints" / "step-00000002"
            place.mkdir(parents=True)
            opened.append((place / "a").open("w"))

    said = told(tmp_path, folder, look)
    opened[0].close()
    assert "The new folder is complete: it was saved as" in said
    assert "the run continues" in said
    assert (tmp_path / "checkpoints" / "step-00000002-2" / "state.json").is_file()
    assert (tmp_path / "result" / "lora.safetensors").is_file()
    assert issubclass(HeldError, MediaError)


def test_what_another_process_tries_to_write_is_no_other_run(folder, tmp_path):
    """Every process of a run asks whether it can write there, and the first claims the folder."""
    (tmp_path / temporary_name("new")).touch()
    assert train(tmp_path, folder, **{**RUN, "run__steps": 1})
