"""Recipes of strangers: told before they act, without anybody's folders, and found again."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from easyanimate_core.cli.main import main
from easyanimate_core.errors import RecipeError
from easyanimate_core.media import read_metadata, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.recipe import METADATA_KEY, Recipe
from easyanimate_core.recipe_files import files_of, located, without_folders
from easyanimate_core.tasks import ImageToVideo
from tests.factories import V5_1, pixels, quick


@pytest.fixture
def made(pipeline, tmp_path):
    """A video of a start picture, with its sidecar, and the picture."""
    folder = tmp_path / "home of somebody"
    folder.mkdir()
    picture = write_png(folder / "start.png", pixels(1)[0])
    task = ImageToVideo(picture, None, {2: picture})
    result = pipeline(V5_1, Head.INPAINT).generate("a", task, quick(steps=1))
    video, sidecar = result.save(folder / "video.mp4")
    return video, sidecar, picture


@pytest.fixture
def opened():
    """Every path that is opened, by Python's own audit."""
    paths: list[str] = []
    listening = [True]

    def listen(event, arguments):
        if listening and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            paths.append(os.fsdecode(arguments[0]))

    sys.addaudithook(listen)
    yield paths
    listening.clear()


def repeat(recipe, output, *options):
    return main(["generate", "--recipe", str(recipe), "--output", str(output), *map(str, options)])


def test_the_video_has_names_and_the_sidecar_paths(made):
    video, sidecar, picture = made
    inside, beside = read_metadata(video)[METADATA_KEY], sidecar.read_text(encoding="utf-8")
    assert "home of somebody" not in inside
    assert str(picture.parent.parent) not in inside
    content = json.loads(inside)
    assert content["sources"]["start"]["file"] == "start.png"
    assert "/" not in content["model"]["path"]
    assert json.loads(beside)["sources"]["start"]["file"] == str(picture)
    assert without_folders(json.loads(beside)) == content


def test_every_path_is_told_and_nothing_opened(made, tmp_path, capsys, opened):
    video, sidecar, picture = made
    for recipe in (sidecar, video):
        opened.clear()
        assert repeat(recipe, tmp_path / "again.mp4") == 2
        said = capsys.readouterr().err
        model = json.loads(sidecar.read_text(encoding="utf-8"))["model"]["path"]
        assert f"The recipe {recipe} opens:" in said
        for part, path in (("model", model), ("start", picture), ("keyframes 2", picture)):
            assert f"  {part:<12} {path} (found)" in said
        assert "add --yes to allow it" in said
        assert not [path for path in opened if path == str(picture) or path.startswith(model)]
    assert not (tmp_path / "again.mp4").exists()
    assert repeat(sidecar, tmp_path / "again.mp4", "--yes") == 0
    assert (tmp_path / "again.mp4").is_file()


def test_a_terminal_is_asked(made, tmp_path, monkeypatch, capsys):
    answers = {"": 2, "n\n": 2, "y\n": 0, "YES\n": 0}
    for number, (answer, status) in enumerate(answers.items()):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys.stdin, "readline", lambda said=answer: said, raising=False)
        assert repeat(made[0], tmp_path / f"{number}.mp4") == status
        assert "Open them? [y/N]" in capsys.readouterr().err


def test_what_the_user_names_needs_no_question(checkpoint, pipeline, tmp_path, capsys):
    video = (
        pipeline(V5_1, Head.T2V).generate("a", settings=quick(steps=1)).save(tmp_path / "a.mp4")[0]
    )
    alone = shutil.move(video, tmp_path / "alone.mp4")
    assert repeat(alone, tmp_path / "b.mp4") == 2
    assert "model" in capsys.readouterr().err
    assert repeat(alone, tmp_path / "b.mp4", "--model", checkpoint(V5_1, Head.T2V)) == 0
    assert main(["generate", "--prompt", "a", "--yes"]) == 2
    assert "--yes is for --recipe" in capsys.readouterr().err


def test_a_video_alone_finds_its_files_by_name_and_hash(made, tmp_path, capsys, checkpoint):
    video, _, picture = made
    away = tmp_path / "away"
    away.mkdir()
    alone = Path(shutil.copy(video, away / "video.mp4"))
    model = ["--model", checkpoint(V5_1, Head.INPAINT)]
    assert repeat(alone, tmp_path / "1.mp4", "--yes", *model) == 2
    said = capsys.readouterr()
    assert f"  {'start':<12} start.png (not found)" in said.out
    assert "start.png. It was not found there" in said.err
    assert "--look-in" in said.err
    write_png(away / "start.png", pixels(2)[0])  # another picture of the name
    assert repeat(alone, tmp_path / "1.mp4", "--yes", *model) == 2
    assert "has changed since the recipe was made (its SHA-256 differs)" in capsys.readouterr().err
    assert repeat(alone, tmp_path / "1.mp4", "--yes", *model, "--look-in", picture.parent) == 0
    shutil.copy(picture, away / "start.png")
    assert repeat(alone, tmp_path / "2.mp4", "--yes", *model) == 0
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "2.mp4").read_bytes()


def test_another_json_beside_the_video_is_not_its_recipe(made):
    video, sidecar, picture = made
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    content["sources"]["start"]["file"] = "/etc/passwd"
    content["settings"]["seed"] += 1
    sidecar.write_text(json.dumps(content), encoding="utf-8")
    assert Recipe.read_value(video)["sources"]["start"]["file"] == "start.png"
    sidecar.write_text('{"notes": 1}', encoding="utf-8")
    assert Recipe.read(video).task.start == picture


def test_a_recipe_cannot_write_to_the_terminal(made, tmp_path, capsys):
    _, sidecar, _ = made
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    content["sources"]["start"]["file"] = "/tmp/\x1b[2J\u202eevil\n (found).png"
    sidecar.write_text(json.dumps(content), encoding="utf-8")
    for options in ([], ["--yes"]):
        assert repeat(sidecar, tmp_path / "again.mp4", *options) == 2
        said = "".join(capsys.readouterr())
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert r"/tmp/\x1b[2J\u202eevil\n (found).png (not found)" in said


@pytest.mark.parametrize(
    ("sources", "listed"),
    [
        ({"tracks": [{"file": "/etc/passwd", "sha256": "0"}]}, ["/etc/passwd"]),
        ({"tracks": [[{"file": "/etc/passwd", "sha256": "0"}]]}, ["/etc/passwd"]),
        ({"poses": {"file": "a", "sha256": 5}, "reference": {"file": "b"}}, ["a", "b"]),
    ],
)
def test_nothing_is_opened_that_is_not_listed(made, sources, listed, opened):
    content = json.loads(made[1].read_text(encoding="utf-8"))
    content |= {"mode": "trajectory", "sources": sources}
    found = [file.path for file in files_of(content) if file.part != "model"]
    assert found == listed
    opened.clear()
    with pytest.raises(RecipeError):
        Recipe.from_json(content)
    assert set(opened) <= set(listed)


def test_a_text_in_the_place_of_tracks_is_not_opened(made, opened):
    content = json.loads(made[1].read_text(encoding="utf-8"))
    content |= {"mode": "trajectory", "sources": {"tracks": {"json": "/etc/passwd"}}}
    with pytest.raises(RecipeError, match="is not a list of tracks"):
        Recipe.from_json(content)
    assert "/etc/passwd" not in opened


def test_names_never_lead_out_of_a_folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "secret").write_text("x")
    for path in ("../secret", "..\\secret", "..", "/..", "below/../../x"):
        content = {"sources": {"start": {"file": path, "sha256": "0"}}}
        (file,) = files_of(content)
        names = [found.name for found in file.candidates([tmp_path / "below"])]
        assert ".." not in names
    content = {"sources": {"start": {"file": "C:\\Users\\me\\secret", "sha256": "0"}}}
    assert located(content, [tmp_path])["sources"]["start"]["file"] == str(tmp_path / "secret")
    assert without_folders(content)["sources"]["start"]["file"] == "secret"
