"""The command make-clips: what it writes and refuses."""

import json

import pytest
import torch

from easyanimate_core.cli.main import build_parser, main
from easyanimate_core.media import read_image, read_video
from easyanimate_core.paths.camera import read_camera_file
from easyanimate_core.paths.trajectory import read_tracks
from easyanimate_core.shapes.scenes import (
    KINDS,
    LOOKS,
    camera_of,
    caption,
    control_video,
    make_scene,
    render,
    tracks_of,
)
from easyanimate_core.shapes.scenes.dataset import FILES

SMALL = ("--size", "32x48", "--frames", "5", "--seed", "3")
COUNT = 9


def scene_of(index):
    return make_scene(3, index, height=32, width=48, frames=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with everything that the command can write."""
    folder = tmp_path_factory.mktemp("clips") / "out"
    arguments = ["make-clips", str(folder), "--count", str(COUNT), *SMALL, "--language", "both"]
    assert main([*arguments, "--controls", *FILES]) == 0
    return folder


def manifest(folder, name="metadata.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_the_manifest_names_every_clip_in_both_languages(written):
    entries = manifest(written)
    assert [entry["text"] for entry in entries] == [
        caption(scene_of(index), language) for index in range(COUNT) for language in ("en", "zh")
    ]
    assert {entry["type"] for entry in entries} == {"video"}
    assert {entry["control_file_path"].split("/")[0] for entry in entries} == {FILES[0]}
    for name in FILES[1:]:
        others = manifest(written, f"metadata_{name}.json")
        assert [e["file_path"] for e in others] == [e["file_path"] for e in entries]
    for entry in entries:
        assert (written / entry["file_path"]).is_file()
        assert (written / entry["control_file_path"]).is_file()


def test_the_videos_are_the_rendered_clips(written):
    for index, entry in enumerate(manifest(written)[::2]):
        clip = read_video(written / entry["file_path"])
        assert clip.fps == 8
        away = clip.frames - torch.from_numpy(render(scene_of(index)).frames) / 255
        assert clip.frames.shape == (5, 32, 48, 3)
        assert away.square().mean().sqrt() < 0.06  # H.264 halves the colour's resolution


@pytest.mark.parametrize("name", ["edges", "depth", "trajectory", "masks"])
def test_control_videos_are_those_of_the_scenes(written, name):
    for index in range(COUNT):
        frames = read_video(written / name / f"{index:06d}.mp4").frames
        scene = scene_of(index)
        if name == "masks":
            expected = torch.from_numpy(render(scene).masks)[..., None].float()
        else:
            expected = torch.from_numpy(control_video(scene, name))
        assert (frames - expected).abs().mean() < 0.01


def test_cameras_and_tracks_are_those_of_the_scenes(written):
    moving = 0
    for index in range(COUNT):
        path, scene = read_camera_file(written / f"camera/{index:06d}.txt"), scene_of(index)
        assert torch.allclose(path.world_to_camera, camera_of(scene).world_to_camera, atol=1e-8)
        entry = manifest(written, "metadata_tracks.json")[2 * index]
        if tracks_of(scene):
            assert read_tracks(written / entry["control_file_path"]) == tracks_of(scene)
            moving += 1
        else:
            assert "control_file_path" not in entry
    assert 0 < moving < COUNT  # both cases were seen


def test_a_contact_sheet_shows_the_first_clips(written):
    assert read_image(written / "contact_sheet.png").shape[1] > COUNT * 75


def test_the_same_command_writes_the_same_files(written, tmp_path, capsys):
    again = tmp_path / "again"
    arguments = ["make-clips", str(again), "--count", "2", *SMALL]
    assert main(arguments) == 0
    assert capsys.readouterr().out.split() == [
        str(again / "metadata.json"),
        str(again / "contact_sheet.png"),
    ]
    assert [entry["text"] for entry in manifest(again)] == [caption(scene_of(i)) for i in (0, 1)]
    assert not any("control_file_path" in entry for entry in manifest(again))
    for clip in ("clips/000000.mp4", "clips/000001.mp4"):
        assert (again / clip).read_bytes() == (written / clip).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "0"], "count of clips is 0"),
        (["--kind", "fly"], "'fly'; it must be one of mixed"),
        (["--look", "neon"], "'neon'; it must be one of textured, outlined"),
        (["--controls", "pose"], "controls are pose; each must be one of edges, depth"),
        (["--controls", "depth", "depth"], "named once"),
        (["--size", "33x48"], "33 x 48; H.264 needs even sides"),
        (["--seed=-1"], "seed -1"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(
    tmp_path, capsys, options, message
):
    folder = tmp_path / "out"
    assert main(["make-clips", str(folder), "--count", "2", *SMALL, *options]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_with_files_is_refused(tmp_path, capsys):
    (tmp_path / "old.txt").write_text("old")
    assert main(["make-clips", str(tmp_path), "--count", "2", *SMALL]) == 2
    assert "is not empty and is not a valid place for new clips" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["old.txt"]


def test_the_help_names_all_there_is(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["make-clips", "--help"])
    words = capsys.readouterr().out.replace(",", " ").replace(":", " ").split()
    assert {*KINDS, *LOOKS, *FILES} <= set(words)
