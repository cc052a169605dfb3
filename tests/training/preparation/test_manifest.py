"""The manifest, the report and the command that leads to them."""

import json
import re
import shutil

import pytest
import torch
from PIL import Image

from easyanimate_core.cli.main import main
from easyanimate_core.errors import InputError
from easyanimate_core.media import read_video, resize_cover, write_mp4, write_png
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.preparation import (
    Captioning,
    caption_files,
    deduplicate,
    filter_files,
    read_captions,
    write_manifest,
    write_report,
)
from tests.factories import damage, grey, pixels, real_clip, write_film
from tests.training.preparation.tiny_vision_models import write_llava

#: Nothing is dropped for what it shows.
EVERYTHING = ("--limit", "motion=..", "--limit", "sharpness=..")
TEXTS = {"bunny.mp4": "A rabbit <yawns>.", "phone.mp4": "一个人在打电话。", "one.png": "A meadow."}


@pytest.fixture(scope="module")
def scenes():
    names = {"bunny": "bigbuckbunny", "phone": "carphone_pristine"}
    return {
        name: resize_cover(read_video(real_clip(clip), max_frames=12).frames, 64, 96)
        for name, clip in names.items()
    }


@pytest.fixture
def dataset(scenes, tmp_path):
    """Two clips and a picture that are kept, a copy and a still that are not."""
    folder = tmp_path / "data"
    for name, frames in scenes.items():
        write_mp4(folder / f"{name}.mp4", frames, fps=24)
    write_mp4(folder / "still.mp4", scenes["phone"][:1].expand(12, -1, -1, -1), fps=24)
    shutil.copy(folder / "bunny.mp4", folder / "copy.mp4")
    write_png(folder / "one.png", scenes["bunny"][0])
    return folder


@pytest.fixture
def prepared(dataset, tmp_path):
    filter_files(dataset)
    deduplicate(dataset)
    source = tmp_path / "texts.json"
    source.write_text(json.dumps(TEXTS))
    read_captions(dataset, source)
    return dataset


def test_the_manifest_lists_what_is_kept(prepared, tmp_path):
    summary = write_manifest(prepared, tmp_path / "train.json")
    assert (summary.videos, summary.pictures, summary.controls) == (2, 1, 0)
    size = {"height": 64, "width": 96}
    assert json.loads(summary.file.read_text(encoding="utf-8")) == [
        {"file_path": path, "text": TEXTS[path], **more, **size, **rest}
        for path, more, rest in (
            ("bunny.mp4", {"type": "video"}, {"frames": 12, "fps": 24.0}),
            ("one.png", {"type": "image"}, {"frames": 1}),
            ("phone.mp4", {"type": "video"}, {"frames": 12, "fps": 24.0}),
        )
    ]


def test_control_videos_go_with_their_clips(prepared, tmp_path):
    controls = prepared / "controls"
    write_mp4(controls / "bunny.mp4", torch.zeros(12, 64, 96, 3), fps=24)
    with pytest.raises(InputError, match=r"2 of 3 files have no control video: controls/one.png"):
        write_manifest(prepared, tmp_path / "train.json")
    shutil.copy(controls / "bunny.mp4", controls / "phone.mp4")
    write_png(controls / "one.png", torch.zeros(64, 96, 3))
    assert write_manifest(prepared, tmp_path / "train.json").controls == 3
    entries = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    assert [e["control_file_path"] for e in entries] == [
        f"controls/{e['file_path']}" for e in entries
    ]


def test_steps_that_were_left_out_drop_nothing(dataset, tmp_path):
    source = tmp_path / "texts.json"
    source.write_text(json.dumps({**TEXTS, "still.mp4": "x", "copy.mp4": "y"}))
    read_captions(dataset, source)
    assert write_manifest(dataset, tmp_path / "train.json").videos == 4


def test_manifests_are_refused(dataset, scenes, tmp_path):
    target = tmp_path / "train.json"
    with pytest.raises(InputError, match=r"must end in \.json"):
        write_manifest(dataset, tmp_path / "train.csv")
    with pytest.raises(InputError, match=r"5 of 5 files have no text: bunny.mp4.*step caption"):
        write_manifest(dataset, target)
    (dataset / "broken.mp4").write_bytes(b"no video" * 100)
    texts = {path.name: "x" for path in dataset.iterdir() if path.is_file()}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    read_captions(dataset, tmp_path / "texts.json")
    with pytest.raises(InputError, match=r"1 files cannot be read: broken.mp4"):
        write_manifest(dataset, target)
    filter_files(dataset)
    deduplicate(dataset)
    write_mp4(dataset / "bunny.mp4", scenes["bunny"][:8], fps=24)
    with pytest.raises(InputError, match="1 files are new or changed since the step filter"):
        write_manifest(dataset, target)
    filter_files(dataset)
    with pytest.raises(InputError, match="1 files were not compared by the step deduplicate"):
        write_manifest(dataset, target)
    assert not target.exists()


def test_the_report_shows_what_was_dropped_and_why(prepared):
    page = write_report(prepared)
    text = page.read_text(encoding="utf-8")
    assert "3 of 5 files are kept" in text
    assert "still.mp4: motion" in text
    assert "copy.mp4: like bunny.mp4, 0 bits apart" in text
    assert "A rabbit &lt;yawns&gt;." in text
    assert "一个人在打电话。" in text
    pictures = re.findall(r'src="([^"]+)"', text)
    assert {"report/funnel.png", "report/motion.png", "report/example_kept.png"} <= set(pictures)
    assert "report/example_duplicates.png" in pictures
    for picture in pictures:
        with Image.open(page.parent / picture) as image:
            image.verify()
    assert {file.name for file in (page.parent / "report").iterdir()} == {
        picture.split("/")[1] for picture in pictures
    }


def test_a_report_needs_the_filter(dataset):
    with pytest.raises(InputError, match=r"decisions.json cannot be read.*Run the step filter"):
        write_report(dataset)


# The command


def command(capsys, *arguments):
    status = main(["prepare-data", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_from_a_long_video_to_a_manifest(scenes, tmp_path, capsys):
    videos, data = tmp_path / "videos", tmp_path / "data"
    long = torch.cat([scenes["bunny"], scenes["phone"]])
    write_mp4(videos / "long.mp4", long.repeat_interleave(2, 0), fps=24)
    alone = ("--workers", 1)
    status, out, _ = command(capsys, "scenes", videos, data, "--min-seconds", 0.5, *alone)
    assert status == 0
    assert "1 video, 2 scenes, 2 clips; 0 scenes too short" in out
    status, out, _ = command(
        capsys, "filter", data, "--limit", "motion=0.01..", "--limit", "sharpness=..", *alone,
        "--no-ocr",
    )  # fmt: skip
    assert status == 0
    assert "text is off: OCR is switched off" in out
    assert "2 of 2 files are kept" in out
    status, out, _ = command(capsys, "deduplicate", data, *alone)
    assert (status, out) == (0, "2 of 2 files are kept\n")
    clips = data / "clips/long-mp4"
    for name, text in (("0000", "A rabbit."), ("0001", "A man.")):
        (clips / f"{name}.txt").write_text(text)
    status, out, _ = command(capsys, "caption", data, "--from", data)
    assert (status, out) == (0, "2 new captions; 0 files without\n")
    status, out, _ = command(capsys, "manifest", data, data / "train.json", *alone)
    assert status == 0
    assert out.endswith("train.json: 2 videos, 0 images\n")
    entries = json.loads((data / "train.json").read_text())
    assert [entry["text"] for entry in entries] == ["A rabbit.", "A man."]
    assert all(read_video(data / entry["file_path"]).fps == 24 for entry in entries)
    status, out, _ = command(capsys, "report", data)
    assert (status, out.strip()) == (0, str(data / "preparation/report.html"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("filter", ".", "--limit", "motion"), "is not MEASURE=LOW..HIGH"),
        (("filter", ".", "--limit", "motion=a..b"), "is not MEASURE=LOW..HIGH"),
        (("filter", ".", "--limit", "beauty=1.."), "'beauty' is unknown"),
        (("caption", "."), "needs either --model"),
        (("caption", ".", "--model", "a", "--from", "b"), "needs either --model"),
        (("scenes", "missing", "out"), "missing does not exist"),
        (("scenes", ".", "out"), ". contains no videos"),
        (("report", "missing"), "missing is not a folder"),
    ],
)
def test_the_command_refuses(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "one.png", torch.zeros(16, 16, 3))
    status, _, err = command(capsys, *arguments)
    assert status == 2
    assert message in err


def test_measures_are_listed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["prepare-data", "filter", "--measures"])
    assert end.value.code == 0
    assert "motion       0.005..1.5   mean optical flow" in capsys.readouterr().out


def test_what_is_changed_in_a_file_is_told_by_every_step_that_looks_at_it(tmp_path, capsys):
    """Pixels that are not square and times that keep to no rate; a damaged clip is named."""

    def wide(stream):
        stream.codec_context.sample_aspect_ratio = 2

    data, alone = tmp_path / "data", ("--workers", "1")
    data.mkdir()
    frames = [grey(0.3 + 0.02 * i, 48, 32) for i in range(20)]
    times = [i / 10 + (i > 12) * 0.4 for i in range(20)]
    write_film(data / "wide.mp4", frames, times, set_up=wide)
    write_mp4(data / "plain.mp4", pixels(1, frames=12), fps=8)
    shutil.copy(data / "plain.mp4", data / "torn.mp4")
    damage(data / "torn.mp4", 8, whole=False)
    told = [
        "note: wide.mp4: Its pixels are not square (2:1): 32 x 48 is shown as 64 x 48.",
        "note: wide.mp4: Its frame rate varies; it is read at a constant 10 frames per second.",
    ]

    def notes(out):
        return [line for line in out.splitlines() if line.startswith("note: ")]

    for _ in range(2):  # as they were measured, and as they are remembered
        status, out, _ = command(capsys, "filter", data, *alone, "--no-ocr", *EVERYTHING)
        assert (status, notes(out)) == (0, told)
        assert f"left out: torn.mp4: {data / 'torn.mp4'} is damaged: parts of its" in out
    captioning = Captioning(frames=2, max_tokens=4, device="cpu")
    model = write_llava(tmp_path / "tiny-llava")
    summary = caption_files(data, model, captioning)
    assert [f"note: {p}: {n}" for p, said in summary.notes.items() for n in said] == told
    (tmp_path / "raw").mkdir()
    shutil.copy(data / "wide.mp4", tmp_path / "raw" / "wide.mp4")
    status, out, _ = command(capsys, "scenes", tmp_path / "raw", tmp_path / "out", *alone)
    assert (status, notes(out)) == (0, told)


@pytest.fixture
def numbered(scenes, tmp_path):
    """Two of kohya's folders, one with a date; every picture has its own caption."""
    folder = tmp_path / "data"
    for number, name in enumerate(("10_sks dog", "2024_trip", "1_more")):
        write_png(folder / name / "a.png", scenes["bunny"][number])
        (folder / name / "a.txt").write_text(f"caption {number}")
    read_captions(folder, folder)
    return folder


def test_repeats_of_numbered_folders_are_followed_and_told(numbered, tmp_path):
    summary = write_manifest(numbered, tmp_path / "train.json")
    entries = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    assert {e["file_path"]: e.get("repeats") for e in entries} == {
        "10_sks dog/a.png": 10, "1_more/a.png": None, "2024_trip/a.png": None,
    }  # fmt: skip
    assert [note.split(",")[0] for note in summary.notes] == [
        "The 1 files of 10_sks dog are drawn 10 times per epoch",
        "The files of 2024_trip are drawn once per epoch: its name says 2024 repeats; 1 to 1000 "
        "are followed.",
    ]
    records = manifest_records(tmp_path / "train.json", numbered, fps=8, report=print)
    assert [record.repeats for record in records] == [10, 1, 1]


def test_an_edited_caption_is_told(numbered, tmp_path):
    (numbered / "1_more" / "a.txt").write_text("new words")
    (note,) = write_manifest(numbered, tmp_path / "train.json").notes[2:]
    assert note.startswith(
        "1 caption file beside the data differ from the captions in use: a.txt has 'new words', "
        "not 'caption 2'."
    )
    told = []
    manifest_records(tmp_path / "train.json", numbered, fps=8, report=told.append)
    assert "a.txt has 'new words', the manifest 'caption 2'" in told[-1]
    read_captions(numbered, numbered)
    assert len(write_manifest(numbered, tmp_path / "train.json").notes) == 2


def test_files_that_are_not_data_are_listed_with_the_remedy(dataset, capsys):
    (dataset / "h.heic").write_bytes(bytes.fromhex("00000018667479706865696300000000") + bytes(60))
    shutil.copy(dataset / "one.png", dataset / "photo.jfif")
    shutil.copy(dataset / "bunny.mp4", dataset / "noname")
    (dataset / "noname.txt").write_text("a clip")
    (dataset / "song.psd").write_bytes(b"8BPS" * 9)
    (dataset / "bunny.npz").write_bytes(b"x")
    (dataset / "bunny.txt").write_text("a rabbit")
    assert main(["prepare-data", "caption", str(dataset), "--from", str(dataset)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out")]
    assert [line.split(":")[1].strip() for line in said] == [
        "h.heic", "noname", "photo.jfif", "song.psd",
    ]  # fmt: skip
    assert "HEIC picture, which is not supported. Save it as JPEG or PNG" in said[0]
    assert "is a clip, but not by its name" in said[1]
    assert "is a picture, but not by its name" in said[2]
    assert "Save it as PNG" in said[3]
