"""Files of a run that are damaged behind their headers: each costs itself, and never the run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from easyanimate_core.errors import HeadError, InputError, MediaError
from easyanimate_core.media import write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.training.clips import find_clips
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.data.readable import Reading
from easyanimate_core.training.data.records import Shape
from easyanimate_core.training.run import run_training
from tests.factories import V5_1, damage, pixels
from tests.training_runs import config, losses

NAMES = ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
LORA = {"rank": 2, "alpha": 2.0}


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


@pytest.fixture
def clips(tmp_path):
    """Clips of 9 frames of 32 x 32, and their manifest."""
    for seed, name in enumerate(NAMES):
        write_mp4(tmp_path / name, pixels(seed, frames=9, height=32, width=32), fps=8)
    write_manifest(tmp_path / "train.json", NAMES)
    return tmp_path


def write_manifest(path, names, **more):
    rows = [{"file_path": name, "text": f"clip {name}", **more} for name in names]
    path.write_text(json.dumps(rows))
    return path


def wanted(clips, folder, output, **changes):
    plain = {"data__synthetic": None, "data__manifest": str(clips / "train.json"),
             "data__frames": [5, 9], "data__tokens": [8, 12], "model__lora": LORA}  # fmt: skip
    return config(clips / output, folder, **plain | changes)


def run(*arguments, **changes):
    said = []
    run_training(wanted(*arguments, **changes), report=said.append)
    return said


@pytest.mark.parametrize("whole", [True, False])
def test_a_clip_that_is_damaged_late_is_left_out_and_told(clips, folder, whole):
    damage(clips / "b.mp4", whole=whole)
    said = run(clips, folder, "all")
    assert said[0].startswith(f"1 of 4 clips of {clips / 'train.json'} cannot be used and are left")
    assert f"{clips / 'b.mp4'} is " in said[0] and "damaged" in said[0]
    write_manifest(clips / "train.json", ("a.mp4", "c.mp4", "d.mp4"))
    assert "left out: 1 file of the data: b.mp4" in said[1]
    assert said[-1] == "note: left out from the beginning: 1 file of the data: b.mp4."
    assert len(run(clips, folder, "others")) == len(said) - 2
    assert losses(clips / "all") == losses(clips / "others")


def test_a_run_that_was_stopped_goes_on_without_the_damaged_clip(clips, folder):
    damage(clips / "c.mp4")
    changes = {"run__steps": 4, "run__save_every": 1}
    run(clips, folder, "whole", **changes)

    def stop(stage, done, _total):
        if (stage, done) == ("train", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(
            wanted(clips, folder, "stopped", **changes), progress=stop, report=lambda _: None
        )
    said = run(clips, folder, "stopped", **changes)
    assert "c.mp4" in said[0]
    assert any(line.startswith("Resuming after step") for line in said[1:])
    assert losses(clips / "stopped") == losses(clips / "whole")


def test_damage_beyond_what_is_trained_on_costs_nothing(clips, folder):
    damage(clips / "a.mp4", 8)
    (found,) = find_clips(
        wanted(clips, folder, "run", data__frames=[1], data__tokens=[4]), report=print
    ).records[:1]
    assert found.name == "a.mp4"


def test_a_run_without_a_clip_is_refused_and_leaves_nothing(clips, folder):
    for name in NAMES:
        damage(clips / name)
    with pytest.raises(MediaError) as error:
        run(clips, folder, "run")
    assert str(error.value).startswith(f"None of the 4 clips of {clips / 'train.json'} can be used")
    assert "a.mp4" in str(error.value) and "d.mp4" not in str(error.value)
    assert not (clips / "run").exists()


def test_a_refused_run_leaves_the_folder_to_the_next(clips, folder):
    """Some of what was read is kept in the cache; settings and earlier runs are as they were."""
    with pytest.raises(HeadError, match="trains the InP head"):
        run(clips, folder, "run", task="inpaint")
    assert not {"config.json", "states"} & {path.name for path in (clips / "run").iterdir()}
    run(clips, folder, "run", seed=4)
    before = losses(clips / "run")
    with pytest.raises(HeadError, match="trains the InP head"):
        run_training(wanted(clips, folder, "run", task="inpaint"), restart=True)
    assert "Resuming after step 2." in run(clips, folder, "run", seed=4)
    assert losses(clips / "run") == before


def test_a_file_that_was_read_is_not_read_again(clips):
    records = manifest_records(clips / "train.json", None, fps=8, report=print)
    reading = Reading((5, 9), clips / "kept")
    assert reading.unreadable(records, slice(None)) == []
    spoilt = [replace(record, load=None) for record in records]
    assert reading.unreadable(spoilt, slice(None)) == []


def test_a_missing_file_costs_itself(clips, folder):
    """Files are deleted by hand, or lie on a drive that is not there."""
    rows = json.loads((clips / "train.json").read_text())
    rows[2]["control_file_path"] = "gone/c.mp4"
    (clips / "train.json").write_text(json.dumps(rows))
    (clips / "b.mp4").unlink()
    said = run(clips, folder, "run")
    assert said[0].splitlines() == [
        f"2 of 4 files of {clips / 'train.json'} cannot be found and are left out:",
        f"  Entry 2: file_path {clips / 'b.mp4'} does not exist.",
        f"  Entry 3: control_file_path {clips / 'gone' / 'c.mp4'} does not exist.",
    ]
    assert "left out: 2 files of the data: b.mp4, c.mp4" in said[1]
    assert "left out: 2 files" in (clips / "run" / "account.txt").read_text()
    assert said[-1] == "note: left out from the beginning: 2 files of the data: b.mp4, c.mp4."
    write_manifest(clips / "train.json", ("a.mp4", "d.mp4"))
    run(clips, folder, "others")
    assert losses(clips / "run") == losses(clips / "others")


def test_a_file_that_is_gone_when_a_run_resumes_costs_itself(clips, folder):
    changes = {"run__save_every": 1, "run__steps": 2}
    run(clips, folder, "run", **changes)
    (clips / "b.mp4").unlink()
    said = run(clips, folder, "run", **changes | {"run__steps": 4})
    assert "b.mp4 does not exist" in said[0]
    told = "The data has changed since the last state: 1 clip removed (b.mp4) (4 before, 3 now)."
    assert any(told in line for line in said)
    assert said[-1].endswith("1 file of the data: b.mp4.")
    assert list(losses(clips / "run")) == [1, 2, 3, 4]
    write_mp4(clips / "b.mp4", pixels(1, frames=9, height=32, width=32), fps=8)
    said = run(clips, folder, "run", **changes | {"run__steps": 6})
    assert any("1 clip added (b.mp4)" in line for line in said)
    assert not any("left out" in line for line in said)


def test_a_dataset_that_is_not_there_at_all_is_refused_with_its_place(clips, folder, tmp_path):
    with pytest.raises(InputError) as error:
        run(clips, folder, "run", data__root=str(tmp_path / "elsewhere"))
    assert str(error.value).startswith(f"None of the 4 files of {clips / 'train.json'} exists. ")
    assert f"relative to {tmp_path / 'elsewhere'}; another folder is set as data.root" in str(
        error.value
    )
    assert not (clips / "run").exists()


def lose(clips, names, at=1):
    """A progress that spoils files once a step is done."""

    def spoil(stage, done, _total):
        if (stage, done) == ("train", at):
            for name in names:
                (clips / name).unlink()

    return spoil


LONG_RUN = {"run__steps": 12, "run__save_every": 4, "data__tokens_per_batch": 12}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_deleted_during_the_run_is_replaced_and_told(clips, folder, workers):
    said, again = [], []
    for output, lines in (("one", said), ("two", again)):
        run_training(
            wanted(clips, folder, output, data__workers=workers, **LONG_RUN, data__frames=[9]),
            progress=lose(clips, ["b.mp4"]), report=lines.append,
        )  # fmt: skip
        write_mp4(clips / "b.mp4", pixels(1, frames=9, height=32, width=32), fps=8)
    assert len(losses(clips / "one")) == 12
    last = next(line for line in said if "became unreadable" in line)
    assert last.startswith("note: 1 clip became unreadable during the run and had to be skipped")
    assert str(clips / "b.mp4") in last
    assert sum("is skipped" in line for line in said) == 1
    if not workers:
        assert losses(clips / "one") == losses(clips / "two")


def test_a_run_ends_only_when_no_clip_is_left(clips, folder):
    """One by one they go, also the only one of its shape."""
    write_mp4(clips / "a.mp4", pixels(0, frames=9, height=32, width=64), fps=8)
    write_png(clips / "p.png", pixels(5, height=32, width=32)[0])
    rows = json.loads((clips / "train.json").read_text())
    rows.append({"file_path": "p.png", "text": "p", "type": "image"})
    (clips / "train.json").write_text(json.dumps(rows))
    more = {**LONG_RUN, "data__frames": [1, 9], "data__tokens": [4, 24]}
    lost, left = lose(clips, NAMES), wanted(clips, folder, "pictures", **more)
    said = []
    run_training(left, progress=lost, report=said.append)
    assert len(losses(clips / "pictures")) == 12
    assert any("became unreadable" in line for line in said)
    for seed, name in enumerate(NAMES):
        write_mp4(clips / name, pixels(seed, frames=9, height=32, width=32), fps=8)
    with pytest.raises(MediaError) as error:
        run_training(
            wanted(clips, folder, "none", **more | {"run__save_every": 1}),
            progress=lose(clips, [*NAMES, "p.png"]), report=lambda _: None,
        )  # fmt: skip
    assert str(error.value).startswith("None of the 5 clips can be read any longer, such as: ")
    assert "resumes from its last state" in str(error.value)


def test_clips_that_fit_no_bucket_are_named_with_what_helps(clips, folder):
    write_mp4(clips / "small.mp4", pixels(1, 9, 16, 16), fps=8)
    write_mp4(clips / "short.mp4", pixels(1, 3, 32, 32), fps=8)
    Image.new("RGB", (8, 40)).save(clips / "thin.png")
    rows = json.loads((clips / "train.json").read_text())
    rows += [{"file_path": n, "text": n, "type": "video"} for n in ("small.mp4", "short.mp4")]
    rows.append({"file_path": "thin.png", "text": "thin", "type": "image"})
    (clips / "train.json").write_text(json.dumps(rows))
    said, asked = [], {"data__frames": [9], "data__tokens": [12]}
    found = find_clips(wanted(clips, folder, "run", **asked), report=said.append).records
    assert [record.name for record in found] == list(NAMES)
    (told,) = said
    assert told.startswith(f"3 of 7 clips of {clips / 'train.json'} fit no bucket and are left out")
    assert "small.mp4 has 9 frames of 16 x 16; to train on it, add 3 to data.tokens." in told
    assert "short.mp4 has 3 frames of 32 x 32; to train on it, add 1 to data.frames and 4 " in told
    assert "thin.png has 1 frame of 8 x 40; to train on it, sides must have at least 16" in told
    more = {"data__frames": [1, 9], "data__tokens": [12, 4, 3]}
    names = {r.name for r in find_clips(wanted(clips, folder, "run", **more), report=print).records}
    assert names == {*NAMES, "small.mp4", "short.mp4"}
    (clips / "train.json").write_text(json.dumps(rows[4:]))
    with pytest.raises(InputError, match=r"(?s)No clip of .* Its 3 clips.*small\.mp4 has 9"):
        find_clips(wanted(clips, folder, "run", **asked), report=print)


def test_the_processes_of_a_run_share_the_reading(clips):
    """As two of them would: what one has read the other need not."""
    damage(clips / "c.mp4")
    records = manifest_records(clips / "train.json", None, fps=8, report=print)
    reading, seen = Reading((5, 9), clips / "kept"), []
    faults = [
        reading.unreadable(records, slice(rank, None, 2), lambda *told: seen.append(told))
        for rank in range(2)
    ]
    assert [[number for number, _ in own] for own in faults] == [[2], []]
    assert seen == [("check", done, 2) for _ in range(2) for done in range(3)]
    assert len([path for path in (clips / "kept").rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_a_picture_that_is_cut_off_is_left_out(clips, folder, format_name):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    file = clips / f"cut.{format_name.lower()}"
    Image.fromarray(noise).save(file, format_name)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    Image.fromarray(noise).save(clips / "whole.png")
    write_manifest(clips / "train.json", (file.name, "whole.png"), type="image")
    said = run(clips, folder, "run", data__frames=[1], data__tokens=[4])
    assert "1 of 2 clips" in said[0] and file.name in said[0]


def test_what_lies_beside_a_clip_is_read_too(clips, checkpoint):
    """Control videos and camera paths: one that is damaged, missing or too short costs its clip."""
    rows = json.loads((clips / "train.json").read_text())
    for row in rows[:3]:
        row["control_file_path"] = f"control-{row['file_path']}"
        write_mp4(clips / row["control_file_path"], pixels(7, 9, 32, 32), fps=8)
    damage(clips / "control-b.mp4")
    rows[2]["camera_file_path"] = "short.txt"
    (clips / "short.txt").write_text("video\n" + "0 " * 19 + "\n")
    (clips / "train.json").write_text(json.dumps(rows))
    said = []
    control = wanted(clips, checkpoint(V5_1, Head.CONTROL), "run", task="control", model__lora=LORA)
    (left,) = find_clips(control, report=said.append).records
    assert left.name == "a.mp4"
    told = next(line for line in said if line.startswith("3 of 4 clips")).splitlines()
    assert "control-b.mp4" in told[1] and "c.mp4: " in told[2]
    assert told[3] == "  d.mp4: It has no control_file_path, which the task needs."


def test_a_picture_is_trained_on_with_its_control(clips, checkpoint):
    write_png(clips / "a.png", pixels(1, height=32, width=32)[0])
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[::8] = 255
    Image.fromarray(lines).save(clips / "lines.png")
    row = {"file_path": "a.png", "control_file_path": "lines.png", "type": "image", "text": "a"}
    (clips / "train.json").write_text(json.dumps([row]))
    control = wanted(
        clips, checkpoint(V5_1, Head.CONTROL), "run", task="control", model__lora=None,
        data__frames=[1], data__tokens=[4],
    )  # fmt: skip
    (record,) = find_clips(control, report=print).records
    sample = record.load(Shape(1, 32, 32))
    assert sample.control.shape == sample.frames.shape == (1, 32, 32, 3)
    assert sample.control.max() == 1, "lines are scaled at full strength"
    run_training(control, report=lambda _: None)


def test_held_out_clips_are_looked_at_before_the_first_step(clips, folder):
    """A clip too small to be measured, and one that cannot be read."""
    write_mp4(clips / "tiny.mp4", pixels(1, 9, 16, 16), fps=8)
    damage(clips / "d.mp4")
    held_out = write_manifest(clips / "held.json", ("tiny.mp4", "c.mp4", "d.mp4"))
    write_manifest(clips / "train.json", ("a.mp4", "b.mp4"))
    more = {
        "validation__manifest": str(held_out), "validation__clips": 3, "data__frames": [9],
        "data__tokens": [12],
    }  # fmt: skip
    said = []
    (left,) = find_clips(wanted(clips, folder, "run", **more), report=said.append).held_out
    assert left.name == "c.mp4"
    assert any(f"1 of 3 clips of {held_out} fit no bucket" in s and "tiny.mp4" in s for s in said)
    assert any(Path(held_out).name in line and "d.mp4" in line for line in said)
    write_manifest(held_out, ("tiny.mp4",))
    with pytest.raises(
        InputError, match=r"(?s)No clip of .*held\.json fits a bucket.*tiny\.mp4 has 9"
    ):
        find_clips(wanted(clips, folder, "run", **more), report=print)
