"""`demo`: every mode runs on checkpoints that it makes, and is shown."""

import pytest

from easyanimate_core.cli import demo
from easyanimate_core.cli.main import main
from easyanimate_core.media import read_image, read_video
from easyanimate_core.recipe import METADATA_KEY, read_metadata
from easyanimate_core.tasks import TASKS


def test_a_video_of_every_mode(tmp_path, monkeypatch, capsys):
    """The demo itself, with its own picture and clip, at a quarter of its size."""
    monkeypatch.setattr(demo, "HEIGHT", 64)
    monkeypatch.setattr(demo, "WIDTH", 96)
    out = tmp_path / "out"
    assert main(["demo", "--steps", "2", "--device", "cpu", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    videos = {video.stem.replace("_", " "): video for video in out.glob("*.mp4")}
    table = [line[:34].strip().lower().replace(",", "") for line in lines if " MB" in line]
    assert sorted(table) == sorted(videos)
    assert {label.split()[0] for label in table} == {"v5", "v5.1"}
    for label, video in videos.items():
        frames = read_video(video).frames
        assert frames.shape == (1 if "to image" in label else demo.FRAMES, 64, 96, 3)
        assert frames.std() > 0.02
    texts = [read_metadata(video)[METADATA_KEY] for video in videos.values()]
    assert all(any(f'"mode": "{mode}"' in text for text in texts) for mode in TASKS)
    sheet = read_image(out / "contact_sheet.png")
    assert sheet.shape[1] > len(videos) * 64
    assert sheet.shape[2] > demo.CELLS * 96
    assert str(out / "contact_sheet.png") in lines


def test_without_the_packaged_picture_the_option_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda _: None)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: The demo's default input, data/astronaut.png")
    assert "--image" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--image", "no.png"), ("--video", "no.mp4"), ("--steps", "0"), ("--steps", "1")],
)
def test_bad_options_are_refused_before_anything_is_made(tmp_path, capsys, option, value, files):
    given = {"--image": files / "picture.png", "--video": files / "clip.mp4", "--steps": 2}
    words = [str(word) for pair in (given | {option: value}).items() for word in pair]
    assert main(["demo", "--out", str(tmp_path / "out"), *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()
