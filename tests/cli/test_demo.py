"""`demo`: every mode runs with the small model and is shown."""

import json
import shutil
from pathlib import Path

import pytest

from easyanimate_core import small_model
from easyanimate_core.cli import demo
from easyanimate_core.cli.main import main
from easyanimate_core.media import read_image, read_video
from easyanimate_core.models.specs import Version
from easyanimate_core.recipe import METADATA_KEY, Recipe, read_metadata
from easyanimate_core.recipe_files import BUILT_IN
from easyanimate_core.shapes.judge.tracking import observe
from easyanimate_core.small_model import FOLDER
from easyanimate_core.tasks import TASKS
from tests.factories import V5, V5_1, needs_small_model


@pytest.mark.slow
@needs_small_model(V5_1, V5)
def test_a_video_of_every_mode(tmp_path, capsys):
    """The demo itself, with two steps."""
    out = tmp_path / "out"
    assert main(["demo", "--steps", "2", "--device", "cpu", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    videos = {video.stem.replace("_", " "): video for video in out.glob("*.mp4")}
    table = [line[:34].strip().lower().replace(",", "") for line in lines if " MB" in line]
    assert sorted(table) == sorted(videos)
    assert {label.split()[0] for label in table} == {"v5", "v5.1"}
    for label, video in videos.items():
        frames = read_video(video).frames
        assert frames.shape == (1 if "to image" in label else 17, 96, 96, 3)
        assert frames.std() > 0.01
    texts = [read_metadata(video)[METADATA_KEY] for video in videos.values()]
    models = {Path(json.loads(text)["model"]["path"]).parts[-3] for text in texts}
    assert models == {BUILT_IN}
    assert all(any(f'"mode": "{mode}"' in text for text in texts) for mode in TASKS)
    sheet = read_image(out / "contact_sheet.png")
    assert sheet.shape[1] > len(videos) * demo.CELL_WIDTH
    assert sheet.shape[2] > demo.CELLS * demo.CELL_WIDTH
    assert str(out / "contact_sheet.png") in lines
    for version in ("v5.1", "v5"):
        asked = [Recipe.read(videos[f"{version} text to video{end}"]) for end in ("", " chinese")]
        assert [recipe.prompts[0].isascii() for recipe in asked] == [True, False]


def test_v5_shows_every_mode_that_it_has():
    modes = {
        version: [row.name for row in demo.rows() if row.version is version] for version in Version
    }
    lacking = [name for name in modes[V5_1] if "camera" in name or "reference" in name]
    assert lacking
    assert modes[V5] == [name for name in modes[V5_1] if name not in lacking]


def test_the_sheets_font_has_every_label():
    assert all(row.label.isascii() for row in demo.rows()), "it has no Chinese"


def test_what_is_edited_gets_another_colour():
    """The prompts of regions and of video to video ask for what the clip does not show."""
    modes = ("region_edit", "video_to_video")
    rows = [row for row in demo.rows() if row.task.mode in modes]
    assert len(rows) == 6
    for row in rows:
        shown = observe(row.task.video).main
        assert shown.shape in row.prompt
        assert shown.colour not in row.prompt


@pytest.mark.parametrize("half", [False, True], ids=["none", "V5.1"])
def test_without_the_weights_it_says_so(tmp_path, monkeypatch, capsys, half):
    """Before it starts, although V5 comes last."""
    monkeypatch.setattr(small_model, "FOLDER", tmp_path / "none")
    if half:
        ignored = shutil.ignore_patterns(V5.value.lower())
        shutil.copytree(FOLDER, small_model.FOLDER, ignore=ignored)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "does not include the small model" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("steps", ["0", "1"])
def test_too_few_steps_are_refused_before_anything_is_made(tmp_path, capsys, steps):
    assert main(["demo", "--out", str(tmp_path / "out"), "--steps", steps]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()
