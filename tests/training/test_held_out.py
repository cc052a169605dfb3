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
    assert said[0].startswith(
        "Validation measures 2 clips that training sees too, because the data, 3 clips"
    )


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


def parts(folder, name, count, seed, cut=0):
    """One pan over a photograph, in parts that follow each other; `cut` leaves frames out."""
    photo = torch.from_numpy(getattr(data, SCENES[seed % 4])()).float() / 255
    frames = [photo[100:228, i : i + 128] for i in range(0, 9 * count * 3, 3)]
    for number in range(count):
        own = torch.stack(frames[9 * number : 9 * number + 9 - cut])
        write_mp4(folder / name.format(number), resize_cover(own, 48, 48), fps=8)
    return [name.format(number) for number in range(count)]


def sides(found):
    return names_of(found.records), names_of(found.held_out)


@pytest.mark.parametrize("name", ["clips/{}-mp4/{{:04d}}.mp4", "{}-Scene-{{:03d}}.mp4"])
def test_clips_that_are_named_after_one_recording_are_on_one_side(folder, name):
    """Scenes of a film do not look alike."""
    names = []
    for film in range(8):
        (folder / name.format(f"film{film}")).parent.mkdir(parents=True, exist_ok=True)
        for number in range(2):
            names.append(name.format(f"film{film}").format(number))
            write_mp4(folder / names[-1], pixels(2 * film + number, 9, 48, 48), fps=8)
    said = []
    found = find_clips(asked(folder, names), report=said.append)
    trained, held = sides(found)
    of = {own: own.split("film")[1][0] for own in names}
    assert len(held) == 2 and not {of[own] for own in held} & {of[own] for own in trained}
    assert len(trained) == 14, "the second clip is of the same film"
    assert "recordings" not in said[-1]
    found = find_clips(asked(folder, names, validation__clips=1), report=said.append)
    assert len(found.held_out) == 1 and len(found.records) == 14
    assert "Other clips of the same recordings are left out of training: " in said[-1]


def test_parts_that_follow_each_other_are_of_one_recording(folder):
    """Whatever they are called."""
    for seed in range(2):
        for number, name in enumerate(parts(folder, "r{}.mp4", 3, seed)):
            (folder / name).rename(folder / f"{'xqj'[number]}-{seed}.mp4")
    names = [f"{part}-{seed}.mp4" for seed in range(2) for part in "xqj"]
    names += [f"{n}.mp4" for n in range(20, 32)]
    for n in range(20, 32):
        write_mp4(folder / f"{n}.mp4", pixels(n, 9, 48, 48), fps=8)
    for clips in (1, 4, 8):
        trained, held = sides(find_clips(asked(folder, names, validation__clips=clips),
                                         report=print))  # fmt: skip
        for seed in range(2):
            own = {name for name in names if name.endswith(f"-{seed}.mp4")}
            assert own <= trained or own.isdisjoint(trained), (trained, held)


def test_one_recording_alone_is_measured_as_what_it_is(folder, checkpoint):
    names = parts(folder, "holiday_{:03d}.mp4", 8, 1)
    write_mp4(folder / names[4], pixels(4, 9, 48, 48), fps=8)  # another scene
    said = []
    found = find_clips(asked(folder, names), report=said.append)
    trained, held = sides(found)
    assert held and not trained & held
    assert "Training sees other clips of the same recordings" in said[-1]
    wanted = asked(folder, names, validation__videos=0, run__steps=1)
    model = wanted.model.model_copy(update={"checkpoint": checkpoint(V5_1, Head.T2V)})
    run_training(wanted.model_copy(update={"model": model}), report=lambda _: None)
    assert "validation_loss_of_trained_recordings" in (folder / "run" / "log.jsonl").read_text()


def test_numbers_alone_make_no_recording(folder):
    """A dataset may be numbered through, clips and pictures alike."""
    for number in range(12):
        write_mp4(folder / f"clip_{number:03d}.mp4", scene(number), fps=8)
        write_png(folder / f"img_{number:04d}.png", pixels(number, 1, 48, 48)[0])
    names = [f"clip_{n:03d}.mp4" for n in range(12)] + [f"img_{n:04d}.png" for n in range(12)]
    said = []
    found = find_clips(asked(folder, names, validation__clips=6), report=said.append)
    assert len(found.held_out) == 6 and len(found.records) == 18
    assert "recording" not in "".join(said)


def test_a_fade_to_black_connects_no_clips(folder):
    """Every clip begins and ends with it."""
    for number in range(12):
        dark = scene(number)
        dark[[0, -1]] = 0
        write_mp4(folder / f"{number}.mp4", dark, fps=8)
    said = []
    find_clips(asked(folder, NAMES), report=said.append)
    assert "recording" not in said[-1]


def test_a_mirrored_copy_leaves_training_too(folder):
    found = find_clips(asked(folder, NAMES), report=print)
    first = found.held_out[0].name
    write_mp4(folder / "mirrored.mp4", scene(int(first[:-4])).flip(2), fps=8)
    trained, held = sides(find_clips(asked(folder, [*NAMES, "mirrored.mp4"]), report=print))
    assert not {first, "mirrored.mp4"} & trained or not {first, "mirrored.mp4"} & held


def test_a_manifest_of_recordings_that_are_trained_on_is_told(folder):
    names = [f"clips/film-mp4/{n:04d}.mp4" for n in range(4)]
    (folder / "clips" / "film-mp4").mkdir(parents=True)
    for n, name in enumerate(names):
        write_mp4(folder / name, pixels(n, 9, 48, 48), fps=8)
    held = folder / "held.json"
    held.write_text(json.dumps([{"file_path": names[3], "text": "x"}]))
    said = []
    find_clips(asked(folder, names[:3], validation__manifest=str(held)), report=said.append)
    assert any("are of recordings that are trained on" in line for line in said)


def test_a_damaged_look_is_made_again(folder):
    before = names_of(find_clips(asked(folder, NAMES), report=print).held_out)
    looks = sorted((folder / "cache" / "looks").rglob("*.json"))
    spoilt = [
        "",
        "[]",
        '["1"]',
        "{}",
        '["-1"]',
        json.dumps(["f" * 20] * 245),
        json.dumps([1] * 245),
    ]
    for look, text in zip(looks, spoilt, strict=False):
        look.write_text(text)
    assert names_of(find_clips(asked(folder, NAMES), report=print).held_out) == before


def test_a_run_says_that_it_has_trained_on_what_is_held_out_now(folder, checkpoint):
    """The held-out clip is deleted, and another takes its place."""
    wanted = asked(folder, NAMES, validation__videos=0, validation__clips=1, run__steps=2)
    model = wanted.model.model_copy(update={"checkpoint": checkpoint(V5_1, Head.T2V)})
    wanted = wanted.model_copy(update={"model": model})
    run_training(wanted, report=lambda _: None)
    (held,) = names_of(find_clips(wanted, report=print).held_out)
    (folder / held).unlink()
    (now,) = names_of(find_clips(wanted, report=print).held_out)
    said = []
    longer = wanted.model_copy(update={"run": wanted.run.model_copy(update={"steps": 3})})
    run_training(longer, report=said.append)
    assert (
        f"note: Validation measures 1 clip that the run has been trained on until now: {now}."
        in said
    )
