"""The commands camera and trajectory: what they write and refuse."""

import pytest
import torch

from easyanimate_core.cli.main import main
from easyanimate_core.media import read_image, read_video, write_png
from easyanimate_core.paths.camera import (
    Intrinsics,
    camera_path,
    from_cameractrl_text,
    read_camera_file,
    to_cameractrl_text,
)
from easyanimate_core.paths.moves import continue_path, preset_path
from easyanimate_core.paths.trajectory import heatmap_frames, resample, tracks_from_json

TRACKS = (
    '[[{"x": 10, "y": 10}, {"x": 80, "y": 40}], '
    '{"points": [{"x": 5, "y": 60}, {"x": 50, "y": 5, "t": 0.5}, {"x": 90, "y": 60}], '
    '"spline": true, "size": 2.0}]'
)


@pytest.fixture
def camera(tmp_path, capsys):
    """`camera` with options: the path that was written."""

    def run(*options):
        file = tmp_path / "out" / "path.txt"
        words = ["camera", *map(str, options), "--out", str(file), "--force"]
        assert main(words) == 0, capsys.readouterr()
        assert capsys.readouterr().out.splitlines()[0] == str(file)
        return read_camera_file(file)

    return run


def assert_same(path, other):
    assert torch.allclose(path.world_to_camera, other.world_to_camera, rtol=0, atol=1e-8)
    for lens, expected in zip(path.intrinsics, other.intrinsics, strict=True):
        assert (lens.fx, lens.fy) == pytest.approx((expected.fx, expected.fy), abs=1e-8)


def test_camera_writes_text_and_picture(camera, tmp_path):
    picture = tmp_path / "path.png"
    path = camera("--moves", "Zoom In", "--frames", 49, "--preview", picture)
    assert_same(path, preset_path("Zoom In", frames=49))
    assert read_image(picture).shape == (1, 580, 1032, 3)
    assert len(camera("--moves", "CW")) == 49


def test_camera_prints_without_a_file(capsys):
    assert main(["camera", "--moves", "CW", "--frames", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed == to_cameractrl_text(preset_path("CW", frames=3))
    assert len(from_cameractrl_text(printed)) == 3


def test_camera_moves_at_once_and_after_each_other(camera):
    together = camera("--moves", "Pan Left", "ACW", "--frames", 9, "--timing", "original")
    assert_same(together, camera_path(["Pan Left", "ACW"], frames=9))
    parts = camera("--moves", "CW", "--moves", "Orbit Up", "--frames", 8, "--speed", 0.5,
                   "--easing", "ease in", "--distance", 2)  # fmt: skip
    options = {"speed": 0.5, "easing": "ease in", "distance": 2}
    first, second = (preset_path(m, frames=n, **options) for m, n in (("CW", 5), ("Orbit Up", 4)))
    assert_same(parts, continue_path(first, second))


def test_camera_reads_files(camera, tmp_path):
    table = tmp_path / "keyframes.txt"
    table.write_text("frame x y z yaw pitch roll\n0 0 0 0\n8 0 0 1.5\n")
    keyframes = camera("--keyframes", table)
    assert_same(keyframes, preset_path("Dolly In", frames=9))
    assert len(camera("--keyframes", table, "--frames", 13)) == 13
    poses = tmp_path / "poses.txt"
    poses.write_text(to_cameractrl_text(keyframes))
    assert_same(camera("--poses", poses), keyframes)
    assert_same(camera("--poses", poses, "--frames", 5), keyframes.first(5))
    longer = camera("--poses", poses, "--moves", "CW", "--frames", 17)
    assert_same(longer, continue_path(keyframes, preset_path("CW", frames=9)))
    assert len(camera("--poses", poses, "--moves", "CW")) == 57
    both = camera("--keyframes", table, "--moves", "CW", "--combine")
    assert_same(both, preset_path(["CW", "Dolly In"], frames=9))


def test_camera_lens_follows_the_size(camera):
    path = camera("--moves", "CW", "--field-of-view", 50, "--size", "512x256", "--frames", 5)
    lens = Intrinsics.of_view(50, height=512, width=256)
    assert_same(path, preset_path("CW", frames=5, intrinsics=lens))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "camera needs --moves, --keyframes or --poses"),
        (["--moves", "Up"], "Pan Up, Pan Down"),
        (["--moves", "CW", "--combine"], "--combine needs"),
        (["--moves", "CW", "--easing", "jump"], "ease in-out"),
        (["--moves", "CW", "--frames", "0"], "frames is 0"),
        (["--moves", "CW", "--moves", "CW", "--frames", "2"], "at least 3 are needed"),
        (["--moves", "CW", "--preview", "x.jpg"], "must end in .png"),
        (["--poses", "none.txt"], "none.txt cannot be read"),
        (["--keyframes", "none.txt"], "none.txt cannot be read"),
        (["--keyframes", "a.txt", "--poses", "b.txt"], "cannot be combined"),
        (["--poses", "@poses.txt", "--moves", "CW", "--frames", "3"], "Use more frames"),
        (["--poses", "@poses.txt", "--moves", "CW", "--combine", "--frames", "9"], "and 9 poses"),
        (["--poses", "@poses.txt", "--frames", "99"], "99 were requested"),
    ],
)
def test_camera_refuses(files, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["camera", *(option.replace("@", f"{files}/") for option in options)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_trajectory_writes_what_the_model_sees(tmp_path, capsys):
    file, image = tmp_path / "tracks.json", tmp_path / "first.png"
    file.write_text(TRACKS)
    write_png(image, torch.rand(80, 80, 3, generator=torch.Generator().manual_seed(0)))
    video, preview = tmp_path / "out" / "tracks.mp4", tmp_path / "preview.png"
    words = ["trajectory", str(file), str(video), "--size", "64x96", "--frames", "9"]
    assert main([*words, "--preview", str(preview), "--image", str(image)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(video), str(preview)]
    clip = read_video(video)
    tracks = [resample(track, 9) for track in tracks_from_json(TRACKS)]
    expected = heatmap_frames(tracks, height=64, width=96)
    assert clip.fps == 8
    assert clip.frames.shape == (9, 64, 96, 3)
    assert (clip.frames - expected).abs().mean() < 0.02
    over = read_image(preview)
    assert over.shape == (1, 64, 96, 3)
    assert main([*words, "--preview", str(preview), "--force"]) == 0
    assert not torch.equal(read_image(preview), over)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["[]", "out.mp4"], "a list of"),
        (["none.json", "out.mp4"], "none.json cannot be read"),
        ([TRACKS, "out.gif"], "must end in .mp4"),
        ([TRACKS, "out.mp4", "--preview", "x.jpg"], "must end in .png"),
        ([TRACKS, "out.mp4", "--image", "x.png"], "no effect without --preview"),
        ([TRACKS, "out.mp4", "--preview", "y.png", "--image", "x.png"], "x.png does not exist"),
        ([TRACKS, "out.mp4", "--frames", "0"], "frames is 0"),
        ([TRACKS, "out.mp4", "--size", "63x96"], "even sides"),
    ],
)
def test_trajectory_refuses(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["trajectory", *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
