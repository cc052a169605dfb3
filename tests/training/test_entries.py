"""What a manifest's entries say, and how their files are known again."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from easyanimate_core.errors import InputError
from easyanimate_core.media import picture_facts, read_still, write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.run import run_training
from tests.factories import V5_1, pixels
from tests.training_runs import config


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    for seed, name in enumerate(("a.mp4", "b.mp4")):
        write_mp4(folder / name, pixels(seed, frames=9, height=32, width=32), fps=8)
    write_png(folder / "c.png", pixels(2, height=32, width=48)[0])
    Image.fromarray((pixels(3, height=32, width=32)[0].numpy() * 255).astype(np.uint8)).save(
        folder / "d.gif",
        save_all=True,
        append_images=[Image.new("RGB", (32, 32), "red")],
        duration=500,
    )
    return folder


def records(folder, *rows, **more):
    told = []
    rows = [{"text": "x", **row} if isinstance(row, dict) else row for row in rows]
    rows = [{k: v for k, v in row.items() if v is not ...} for row in rows]
    (folder / "train.json").write_text(json.dumps(rows))
    found = manifest_records(folder / "train.json", None, fps=8, report=told.append, **more)
    return found, told


def test_the_type_is_that_of_the_file(clips):
    names = ("a.mp4", "c.png", "d.gif")
    seen = []
    found, told = records(
        clips, *({"file_path": n} for n in names), progress=lambda *p: seen.append(p)
    )
    assert [(r.frames, r.height, r.width) for r in found] == [(9, 32, 32), (1, 32, 48), (7, 32, 32)]
    assert [r.seconds for r in found] == [pytest.approx(9 / 8), 0, pytest.approx(1)]
    assert [r.repeats for r in found] == [1, 1, 1] and not told
    assert seen == [("read", done, 3) for done in range(4)]
    kept, told = records(clips, {"file_path": "c.png", "type": "video"}, {"file_path": "a.mp4"})
    assert len(kept) == 1 and 'Its type is "video"; write "image".' in told[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": None}, r"Entry 1 of the manifest \(a.mp4\) has text = None; it must be text"),
        ({"text": ["a", "b"]}, r"text = \['a', 'b'\]; it must be text. Join them"),
        ({"text": 5}, "text = 5; it must be text"),
        ({"text": "None"}, "'None', as programs print a missing value"),
        ({"text": "['a', 'b']"}, "a list printed as text"),
        ({"text": ...}, r'has no text. Add one, or "text": "" to train it without words'),
        ({"text": ..., "prompt": "x"}, "has no text. It has 'prompt': rename that to text"),
        ({"text": ..., "Caption": "x"}, "It has 'Caption': rename that to text"),
        ({"file_path": ..., "video": "a.mp4"}, "It has 'video': rename that to file_path"),
        ({"file_path": ["a.mp4"]}, "it must be the path of one file"),
        ({"repeats": 0}, "has repeats = 0; it must be a whole number from 1 to 1,000"),
        ({"type": "clip"}, "has type = 'clip'; it must be 'video' or 'image'"),
    ],
)
def test_entries_without_one_text_are_named(clips, row, message):
    with pytest.raises(InputError, match=message):
        records(clips, {"file_path": "a.mp4", **row})


def test_several_faults_are_listed(clips):
    with pytest.raises(InputError) as error:
        records(clips, *[{"file_path": "a.mp4", "text": None}] * 5)
    assert len(str(error.value).splitlines()) == 4
    assert str(error.value).endswith("and 2 more entries")


def test_texts_are_not_needed_where_none_is_trained(clips):
    found, _ = records(clips, {"file_path": "a.mp4", "text": ...}, captioned=False)
    assert found[0].captions == ("",)


def test_an_empty_text_is_trained_without_words(clips):
    found, told = records(clips, {"file_path": "a.mp4", "text": ""})
    assert found[0].captions == ("",) and not told


def test_files_that_are_named_twice_are_told(clips):
    shutil.copy(clips / "a.mp4", clips / "copy of a.mp4")
    found, told = records(
        clips, *({"file_path": n} for n in ("a.mp4", "copy of a.mp4", "b.mp4", "./a.mp4"))
    )
    assert len(found) == 4
    assert told == [
        "2 of 4 entries repeat the file of another, so it is drawn that much more often: copy of "
        "a.mp4 (as a.mp4), ./a.mp4 (as a.mp4)."
    ]


def test_repeats_that_the_entries_do_not_have_are_told(clips):
    (clips / "10_dog").mkdir()
    shutil.copy(clips / "c.png", clips / "10_dog" / "c.png")
    found, told = records(clips, {"file_path": "10_dog/c.png"})
    assert found[0].repeats == 1 and "Folders are named as for kohya's repeats (10_dog)" in told[0]
    found, told = records(clips, {"file_path": "10_dog/c.png", "repeats": 10})
    assert found[0].repeats == 10 and not told


def test_a_camera_file_is_no_caption(clips):
    (clips / "a.txt").write_text("video\n" + ("0 " * 19 + "\n") * 9)
    _, told = records(clips, {"file_path": "a.mp4", "camera_file_path": "a.txt"})
    assert not told


def test_a_copied_and_touched_dataset_is_not_encoded_again(clips, checkpoint, tmp_path):
    """Nor read again: the caches go by content."""
    names = ("a.mp4", "b.mp4")
    records(clips, *({"file_path": name} for name in names))
    plain = {
        "data__synthetic": None, "data__frames": [5, 9], "data__tokens": [8, 12],
        "data__cache": str(tmp_path / "cache"), "model__lora": {"rank": 2, "alpha": 2.0},
    }  # fmt: skip
    model = checkpoint(V5_1, Head.T2V)
    manifest = str(clips / "train.json")
    run_training(config(tmp_path / "one", model, data__manifest=manifest, **plain), report=print)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.*")}
    moved = shutil.copytree(clips, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    for file in moved.iterdir():
        os.utime(file, (1, 1))
    manifest = str(moved / "train.json")
    run_training(config(tmp_path / "two", model, data__manifest=manifest, **plain), report=print)
    assert before and before == {
        file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.*")
    }


def test_another_rate_is_another_clip(clips):
    (found,), _ = records(clips, {"file_path": "a.mp4"})
    (other,) = manifest_records(clips / "train.json", None, fps=4, report=print)
    assert found.identity != other.identity


@pytest.mark.parametrize("place", ["before", "behind"])
def test_the_header_of_a_png_tells_its_orientation(tmp_path, place):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    if place == "behind":
        start = content.index(b"eXIf") - 4
        chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
        end = content.index(b"IEND") - 4
        content = (content[:end] + chunk + content[end:]).replace(chunk, b"", 1)
        (tmp_path / "a.png").write_bytes(content)
    facts = picture_facts(tmp_path / "a.png")
    assert (facts.height, facts.width) == read_still(tmp_path / "a.png").size == (30, 20)


def test_a_header_is_read_without_the_pixels(tmp_path):
    Image.effect_noise((256, 256), 60).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:200])
    assert picture_facts(tmp_path / "a.png").width == 256
