"""Clips that validation measures are not trained on, nor are their near-duplicates."""

import json
from dataclasses import replace

import pytest
import torch
from skimage import data

from easyanimate_core.media import resize_cover, write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.training.clips import Clips, find_clips
from easyanimate_core.training.run import run_training
from tests.factories import V5_1, pixels
from tests.training_runs import clips as synthetic_clips
from tests.training_runs import config

SCENES = ("astronaut", "chelsea", "coffee", "rocket")


@pytest.fixture
def folder(tmp_path):
    """Twelve different clips."""
    for number in range(12):
        write_mp4(tmp_path / f"{number}.mp4", scene(number), fps=8)
    return tmp_path


def scene(number, frames=9, side=48, crop=0):
    """A pan over a part of a photograph."""
    photo = torch.from_numpy(getattr(data, SCENES[number % 4])()).float() / 255
    top = 60 * (number // 4)
    parts = [photo[top : top + 128, 4 * i : 4 * i + 128] for i in range(frames)]
    clip = torch.stack(parts)[:, crop : 128 - crop, crop : 128 - crop]
    return resize_cover(clip, side, side)


def asked(folder, names, **changes):
    rows = [{"file_path": n, "text": n, "type": "image" if n[-3:] == "png" else "video"}
            for n in names]  # fmt: skip
    (folder / "train.json").write_text(json.dumps(rows))
    plain = {"data__synthetic": None, "data__manifest": str(folder / "train.json"),
             "data__frames": [1, 9], "data__tokens": [27, 9], "run__validate_every": 1,
             "data__cache": str(folder / "cache"), "validation__clips": 2}  # fmt: skip
    return config(folder / "run", "checkpoint", **plain | changes)


NAMES = [f"{number}.mp4" for number in range(12)]


def names_of(records):
    return {record.name for record in records}


def test_held_out_clips_are_not_trained_on(folder):
    said = []
    found = find_clips(asked(folder, NAMES), report=said.append)
    held = names_of(found.held_out)
    assert len(held) == 2 and held.isdisjoint(names_of(found.records))
    assert held | names_of(found.records) == set(NAMES)
    assert said == [f"Validation measures 2 clips that training does not see: "
                    f"{', '.join(r.name for r in found.held_out)}."]  # fmt: skip
    again = find_clips(asked(folder, NAMES[::-1]), report=print)
    assert {r.identity for r in again.held_out} == {r.identity for r in found.held_out}


def test_near_duplicates_of_a_held_out_clip_leave_training_with_it(folder):
    first = find_clips(asked(folder, NAMES), report=print).held_out[0].name
    number = int(first.split(".")[0])
    write_mp4(folder / "copy.mp4", scene(number, side=96), fps=8)
    write_mp4(folder / "cut.mp4", scene(number, crop=4), fps=8)
    (folder / "same.mp4").write_bytes((folder / first).read_bytes())
    more = [*NAMES, "copy.mp4", "cut.mp4", "same.mp4"]
    more += [f"{n}.mp4" for n in range(12, 18)]
    for n in range(12, 18):
        write_mp4(folder / f"{n}.mp4", pixels(n, 9, 48, 48), fps=8)
    said = []
    found = find_clips(asked(folder, more, validation__clips=3), report=said.append)
    alike = {first, "copy.mp4", "cut.mp4", "same.mp4"}
    trained, held = names_of(found.records), names_of(found.held_out)
    assert not (alike & trained and alike & held), (trained, held)
    if alike & held:
        assert len(alike & held) == 1 and "Near-duplicates of them are left out" in said[-1]


def test_too_little_data_is_measured_as_what_it_is(folder):
    said = []
    found = find_clips(asked(folder, NAMES[:3]), report=said.append)
    assert len(found.records) == 3 and len(found.held_out) == 2
    assert said[0].startswith("Validation measures 2 clips that training sees too, because 3 clips")


def test_one_look_alike_set_is_not_given_away(folder):
    for number in range(6):
        write_png(folder / f"{number}.png", scene(0, side=48 + 16 * number)[0])
    names = [f"{number}.png" for number in range(6)]
    found = find_clips(asked(folder, names), report=print)
    assert len(found.records) == 6


def test_without_validation_nothing_is_held_out(folder):
    found = find_clips(asked(folder, NAMES, run__validate_every=0), report=print)
    assert len(found.records) == 12


@pytest.mark.parametrize(("count", "label"), [(8, "validation_loss"),
                                              (3, "validation_loss_of_trained_clips")])  # fmt: skip
def test_the_figure_says_what_is_measured(folder, checkpoint, count, label):
    trained = checkpoint(V5_1, Head.T2V)
    wanted = asked(folder, NAMES[:count], validation__videos=0, run__steps=1)
    model = wanted.model.model_copy(update={"checkpoint": trained})
    run_training(wanted.model_copy(update={"model": model}), report=lambda _: None)
    rows = [json.loads(row) for row in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert any(label in row for row in rows)


def test_a_manifest_of_clips_that_are_trained_on_is_told(folder):
    held = folder / "held.json"
    held.write_text(json.dumps([{"file_path": "3.mp4", "text": "x"}]))
    said = []
    find_clips(asked(folder, NAMES, validation__manifest=str(held)), report=said.append)
    assert any("trained on too" in line for line in said)


def test_clips_in_memory_are_held_out_too(tmp_path):
    wanted = config(tmp_path, "checkpoint", run__validate_every=1)
    records = synthetic_clips(count=8)
    said = []
    found = Clips.in_memory(wanted, records, report=said.append)
    assert len(found.held_out) == 1 and len(found.records) == 7 and "does not see" in said[0]
    (same,) = {record.identity for record in found.held_out}
    assert same not in {record.identity for record in found.records}
    twice = [*records, replace(found.held_out[0], captions=("again",))]
    found = Clips.in_memory(wanted, twice, report=said.append)
    assert same not in {r.identity for r in found.records} or same not in {
        r.identity for r in found.held_out
    }
