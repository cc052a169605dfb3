"""The command line: what it prints, writes and refuses."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from easyanimate_core.cli.bars import ProgressBars
from easyanimate_core.cli.main import main
from easyanimate_core.media import read_image, read_video, write_mp4, write_png, writer
from easyanimate_core.models.specs import Head
from easyanimate_core.recipe import Recipe
from tests.factories import CHECKPOINTS, FRAMES, HEIGHT, STEPS, V5, V5_1, WIDTH, pixels

ROOT = Path(__file__).parents[2]
QUICK = ["--size", f"{HEIGHT}x{WIDTH}", "--frames", str(FRAMES), "--steps", str(STEPS)]


@pytest.fixture
def generate(checkpoint, files, tmp_path, capsys):
    """`generate(version, head, *options)`: status, what was printed, and the output's path.

    `{name}` in an option is the file of that name; `output` stands for the folder of the result.
    """

    def run(version, head, *options, prompt="A dog."):
        output = tmp_path / "out" / "video.mp4"
        model = ["--model", str(checkpoint(version, head))] if version else []
        words = ["generate", *model, *QUICK, "--output", str(output)]
        words += ["--prompt", prompt] if prompt is not None else []
        status = main([*words, *(str(option).replace("@", f"{files}/") for option in options)])
        return status, capsys.readouterr(), output

    return run


def in_new_process(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


# Help


def test_help_names_the_commands():
    done = in_new_process("-m", "easyanimate_core", "--help")
    assert done.returncode == 0
    commands = ("generate", "encode", "plan", "download", "describe", "convert", "merge-lora",
                "preprocess", "camera", "trajectory", "make-tiny", "demo", "evaluate",
                "evaluate-meaning", "compare-runs")  # fmt: skip
    for command in commands:
        assert f"\n    {command}" in done.stdout


def test_help_does_not_wait_for_torch():
    """1.6 s with PyTorch's import, 0.1 s without."""
    code = "import sys, easyanimate_core.cli.main as m; m.build_parser(); print(*sys.modules)"
    loaded = in_new_process("-c", code).stdout.split()
    assert "argparse" in loaded
    assert not {"torch", "numpy", "diffusers", "transformers"} & set(loaded)


@pytest.mark.parametrize("command", ["generate", "preprocess", "describe", "make-tiny", "demo"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out


# describe


@pytest.mark.parametrize(("version", "head"), CHECKPOINTS)
def test_describe(checkpoint, capsys, version, head):
    folder = checkpoint(version, head)
    assert main(["describe", str(folder)]) == 0
    text = capsys.readouterr().out
    assert f"EasyAnimate {version.value}, " in text
    assert f" {head.value} head, original layout" in text
    assert main(["describe", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["version"], facts["head"], facts["path"]) == (
        version.value,
        head.value,
        str(folder),
    )
    modes = {
        Head.T2V: ["text to video", "video to video"],
        Head.INPAINT: ["text to video", "image to video", "video to video", "region edit"],
        Head.CONTROL: ["control", "trajectory"],
        Head.CAMERA: ["camera"],
    }
    assert facts["modes"] == modes[head]
    for mode in facts["modes"]:
        assert mode in text
    assert facts["reference_image"] == (version is V5_1 and head in (Head.CONTROL, Head.CAMERA))
    assert facts["scheduler"] == ("Flow" if version is V5_1 else "DDIM")
    parts = facts["parts"]
    assert list(parts) == ["transformer", "vae", "text_encoder"] + ["text_encoder_2"] * (
        version is V5
    )
    for name, part in parts.items():
        stored = sum(file.stat().st_size for file in (folder / name).glob("*.safetensors"))
        assert part["bytes"] == stored
        assert part["dtypes"] == ["BF16 100%"]
        assert 0 < 2 * part["parameters"] < stored


@pytest.mark.parametrize("path", ["missing", "."])
def test_describe_refuses_what_is_no_checkpoint(tmp_path, capsys, path):
    assert main(["describe", str(tmp_path / path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.out == ""


# make-tiny


@pytest.mark.parametrize(("version", "head"), CHECKPOINTS)
def test_make_tiny_writes_what_it_is_asked_for(tmp_path, capsys, checkpoint, version, head):
    path = tmp_path / "tiny"
    arguments = ["make-tiny", str(path), "--version", version.value, "--head", head.value]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(path)
    made, expected = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*")}
        for folder in (path, checkpoint(version, head))
    )
    assert made == expected


def test_make_tiny_without_reference(tmp_path, capsys):
    path = str(tmp_path / "tiny")
    assert main(["make-tiny", path, "--head", "Control", "--no-reference"]) == 0
    capsys.readouterr()
    assert main(["describe", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reference_image"] is False


def test_make_tiny_refuses(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for arguments, message in (
        (["new", "--version", "V5", "--head", "Control-Camera"], "V5 has no Control-Camera head"),
        (["mine"], "not empty and is not a valid tiny checkpoint"),
    ):
        assert main(["make-tiny", str(tmp_path / arguments[0]), *arguments[1:]]) == 2
        assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "notes.txt"]


# generate


MODES = {
    "text to video": (V5_1, Head.T2V, []),
    "image to video": (V5_1, Head.INPAINT, ["--start-image", "@picture.png"]),
    "image to video, all": (
        V5, Head.INPAINT,
        ["--start-image", "@picture.png", "--frame", "2=@other.png", "--frame=-1=@picture.png"],
    ),
    "image to video, end": (V5_1, Head.INPAINT, ["--end-image", "@picture.png"]),
    "video to video": (V5, Head.T2V, ["--video", "@fast.mp4", "--strength", "0.5"]),
    "region edit": (V5_1, Head.INPAINT, ["--video", "@clip.mp4", "--mask", "@mask.png"]),
    "control": (V5_1, Head.CONTROL, ["--control", "@clip.mp4", "--reference", "@picture.png"]),
    "control, V5": (V5, Head.CONTROL, ["--control", "@clip.mp4"]),
    "camera": (
        V5_1, Head.CAMERA, ["--camera", "Pan Left", "--camera", "CW", "--camera-speed", "0.5"],
    ),
    "camera, exact": (V5_1, Head.CAMERA, ["--camera", "CW", "--camera-timing", "exact"]),
    "camera, poses": (
        V5_1, Head.CAMERA, ["--camera-poses", "@poses.txt", "--reference", "@picture.png"],
    ),
    "trajectory": (V5_1, Head.CONTROL, ["--trajectory", "@tracks.json"]),
}  # fmt: skip


@pytest.mark.parametrize(("version", "head", "options"), MODES.values(), ids=MODES.keys())
def test_every_mode_from_its_options(generate, request, version, head, options):
    status, said, output = generate(version, head, *options)
    assert status == 0, said.err
    mode = request.node.callspec.id.partition(",")[0]
    assert f"EasyAnimate {version.value} " in said.out
    assert f" {head.value}, {mode}, on cpu in float32" in said.out
    assert read_video(output).frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert Recipe.read(output).task.mode == mode.replace(" ", "_")
    assert sorted(output.parent.iterdir()) == [output.with_suffix(".json"), output]
    assert str(output) in said.out.splitlines()


def test_every_setting_arrives(generate):
    options = {
        "--fps": "6", "--guidance-scale": "3", "--guidance-rescale": "0.2", "--seed": "9",
        "--negative-prompt": "snow", "--scheduler": "Euler A", "--reference-noise": "0.1",
        "--short": "repeat", "--tile": "256", "--batch": "2",
    }  # fmt: skip
    status, said, output = generate(V5, Head.T2V, *(w for pair in options.items() for w in pair))
    assert status == 0, said.err
    found = Recipe.read(output.with_suffix(".json")).settings
    for option, value in options.items():
        assert str(getattr(found, option[2:].replace("-", "_"))).removesuffix(".0") == value
    assert {file.name for file in output.parent.iterdir()} == {
        "video_0.mp4",
        "video_1.mp4",
        "video.json",
    }
    assert read_video(output.with_stem("video_1")).fps == 6


def test_a_picture(generate, tmp_path):
    picture = tmp_path / "out" / "picture.png"
    status, said, _ = generate(V5_1, Head.T2V, "--frames", "1", "--output", picture)
    assert status == 0, said.err
    assert read_image(picture).shape == (1, HEIGHT, WIDTH, 3)
    assert Recipe.read(picture).settings.frames == 1


def test_notes_are_printed(generate):
    status, said, _ = generate(V5_1, Head.T2V, "--video", "@fast.mp4", prompt="word " * 400)
    assert status == 0
    notes = [line for line in said.out.splitlines() if line.startswith("note: ")]
    assert any("Resampled from 24 to 8 frames per second" in note for note in notes)
    assert any("Prompt 1 was cut at 256 tokens" in note for note in notes)
    assert said.err.strip() == ""


# Recipes


@pytest.mark.parametrize("source", ["video.mp4", "video.json"])
def test_a_recipe_repeats_the_video(generate, tmp_path, source):
    status, _, output = generate(V5_1, Head.INPAINT, "--start-image", "@picture.png")
    again = tmp_path / "again" / "again.mp4"
    recipe = output.parent / source
    words = ["generate", "--yes", "--recipe", str(recipe), "--output", str(again)]
    assert main(words) == status == 0
    assert torch.equal(read_video(again).frames, read_video(output).frames)
    assert again.read_bytes() == output.read_bytes()
    assert again.with_suffix(".json").read_bytes() == output.with_suffix(".json").read_bytes()


def test_a_recipe_repeats_the_dtype(generate, tmp_path, capsys):
    _, _, output = generate(V5_1, Head.T2V, "--dtype", "bfloat16")
    again = tmp_path / "again.mp4"
    assert main(["generate", "--yes", "--recipe", str(output), "--output", str(again)]) == 0
    assert "in bfloat16" in capsys.readouterr().out
    assert again.read_bytes() == output.read_bytes()


def test_a_recipe_with_another_checkpoint_needs_to_be_told(
    checkpoint, checkpoint_copy, tmp_path, capsys
):
    folder = checkpoint_copy(V5_1, Head.T2V)
    out = tmp_path / "first.mp4"
    words = ["generate", "--model", str(folder), "--prompt", "A dog.", *QUICK]
    assert main([*words, "--output", str(out)]) == 0
    shutil.rmtree(folder)
    shutil.copytree(checkpoint(V5_1, Head.T2V, seed=1), folder)
    repeat = ["generate", "--yes", "--recipe", str(out)]
    repeat += ["--output", str(tmp_path / "new" / "again.mp4")]
    capsys.readouterr()
    assert main(repeat) == 2
    assert "is not the checkpoint that the recipe was made with" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert main([*repeat, "--model", str(folder)]) == 0
    assert "note: the checkpoint differs from the recipe's" in capsys.readouterr().out
    other = read_video(tmp_path / "new" / "again.mp4").frames
    assert not torch.equal(other, read_video(out).frames)


def test_a_moved_checkpoint_is_named_with_model(checkpoint, checkpoint_copy, tmp_path, capsys):
    folder = checkpoint_copy(V5_1, Head.T2V)
    out, again = tmp_path / "first.mp4", tmp_path / "again.mp4"
    words = ["generate", "--model", str(folder), "--prompt", "A dog.", *QUICK]
    assert main([*words, "--output", str(out)]) == 0
    shutil.rmtree(folder)
    repeat = ["generate", "--yes", "--recipe", str(out), "--output", str(again)]
    capsys.readouterr()
    assert main(repeat) == 2
    error = capsys.readouterr().err
    assert f"The recipe's checkpoint {folder} does not exist. Set it with --model." in error
    assert main([*repeat, "--model", str(checkpoint(V5_1, Head.T2V))]) == 0
    assert "another checkpoint" not in capsys.readouterr().out
    assert torch.equal(read_video(again).frames, read_video(out).frames)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--prompt", "x"], "--prompt"),
        (["--steps", "3"], "--steps"),
        (["--start-image", "x.png", "--guidance-scale", "1"], "--start-image, --guidance-scale"),
        (["--camera-speed", "1"], "--camera-speed"),
    ],
)
def test_a_recipe_takes_no_other_options(tmp_path, capsys, options, named):
    words = ["generate", "--recipe", str(tmp_path / "x.json"), *options]
    assert main(words) == 2
    assert f"has its own prompt, sources and settings; omit {named}" in (capsys.readouterr().err)


# Refusals: status 2, one line that begins with "error:", nothing written


REFUSED = {
    "no prompt": (V5_1, Head.T2V, [], None, "needs --prompt"),
    "neither prompt nor model": (None, None, [], None, "needs --prompt"),
    "missing model": (None, None, ["--model", "@no"], "x", "no is not a folder"),
    "two modes": (
        V5_1, Head.INPAINT, ["--start-image", "@picture.png", "--video", "@clip.mp4"], "x",
        "The options are for image to video and video to video; use those of a single mode",
    ),
    "three modes": (
        V5_1, Head.CONTROL,
        ["--control", "@clip.mp4", "--camera", "CW", "--trajectory", "@tracks.json"], "x",
        "The options are for control and camera and trajectory",
    ),
    "mask alone": (
        V5_1, Head.INPAINT, ["--mask", "@mask.png"], "x", "--mask has no effect on text to video",
    ),
    "strength alone": (V5_1, Head.T2V, ["--strength", "1"], "x", "--strength has no effect on"),
    "timing alone": (
        V5_1, Head.T2V, ["--camera-timing", "exact"], "x", "--camera-timing has no effect",
    ),
    "timing of poses": (
        V5_1, Head.CAMERA, ["--camera-poses", "@poses.txt", "--camera-timing", "exact"], "x",
        "exact timing is for moves",
    ),
    "speed alone": (V5_1, Head.T2V, ["--camera-speed", "2"], "x", "--camera-speed has no effect"),
    "speed of poses": (
        V5_1, Head.CAMERA, ["--camera-poses", "@poses.txt", "--camera-speed", "2"], "x",
        "speed is 2.0; it scales moves",
    ),
    "reference alone": (
        V5_1, Head.INPAINT, ["--start-image", "@picture.png", "--reference", "@picture.png"], "x",
        "--reference has no effect on image to video; it is for control and camera",
    ),
    "moves and poses": (
        V5_1, Head.CAMERA, ["--camera", "CW", "--camera-poses", "@poses.txt"], "x", "not both",
    ),
    "a place without picture": (V5_1, Head.INPAINT, ["--frame", "5"], "x", "'5' is not N=FILE"),
    "no place": (V5_1, Head.INPAINT, ["--frame=--1=@picture.png"], "x", "is not N=FILE"),
    "a place twice": (
        V5_1, Head.INPAINT, ["--frame", "2=@picture.png", "--frame", "2=@other.png"], "x",
        "--frame 2 is given twice",
    ),
    "a place under two names": (
        V5_1, Head.INPAINT, ["--frame", "4=@picture.png", "--frame=-1=@other.png"], "x",
        "without overlap",
    ),
    "size of 60": (V5_1, Head.T2V, ["--size", "60x96"], "x", "height is 60.*multiple of 16"),
    "size of nothing": (V5_1, Head.T2V, ["--size", "0x96"], "x", "height is 0"),
    "no frames": (V5_1, Head.T2V, ["--frames", "0"], "x", "frames is 0; the length must be 4n"),
    "6 frames": (V5_1, Head.T2V, ["--frames", "6"], "x", r"frames is 6.* Use 5 or 9"),
    "no steps": (V5_1, Head.T2V, ["--steps", "0"], "x", "steps is 0"),
    "unknown scheduler": (V5_1, Head.T2V, ["--scheduler", "LCM"], "x", "no scheduler 'LCM'"),
    "V5's scheduler": (V5_1, Head.T2V, ["--scheduler", "DDIM"], "x", "Use Flow"),
    "Flow on V5": (V5, Head.T2V, ["--scheduler", "Flow"], "x", "V5 predicts v_prediction"),
    "control on T2V": (
        V5_1, Head.T2V, ["--control", "@clip.mp4"], "x",
        "A T2V checkpoint cannot do control: it needs the Control head",
    ),
    "reference on V5": (
        V5, Head.CONTROL, ["--control", "@clip.mp4", "--reference", "@picture.png"], "x",
        "This V5 Control model takes no reference image",
    ),
    "missing picture": (
        V5_1, Head.INPAINT, ["--start-image", "@no.png"], "x", "no.png does not exist",
    ),
    "broken clip": (
        V5_1, Head.T2V, ["--video", "@broken.mp4"], "x", "broken.mp4 is not a video",
    ),
    "empty mask": (
        V5_1, Head.INPAINT, ["--video", "@clip.mp4", "--mask", "@black.png"], "x", "mask is empty",
    ),
    "short clip": (
        V5_1, Head.T2V, ["--video", "@clip.mp4", "--frames", "13"], "x", "Use 9 frames or fewer",
    ),
    "no step left": (
        V5_1, Head.T2V, ["--video", "@clip.mp4", "--strength", "0.1"], "x",
        "leaves no step. Use at least 10 steps",
    ),
    "small tiles": (V5_1, Head.T2V, ["--tile", "64"], "x", "Use larger tiles"),
    "unknown device": (V5_1, Head.T2V, ["--device", "toaster"], "x", "'toaster' cannot be used"),
    "unknown dtype": (V5_1, Head.T2V, ["--dtype", "int8"], "x", "'int8' is unknown"),
    "bytes for a prompt": (V5_1, Head.T2V, [], "\udcff", "is not valid UTF-8"),
}  # fmt: skip


def check_refused(status, said, output, message):
    assert status == 2
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 1
    assert re.search(message, said.err)
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("version", "head", "options", "prompt", "message"), REFUSED.values(), ids=REFUSED.keys()
)
def test_refused(generate, version, head, options, prompt, message):
    check_refused(*generate(version, head, *options, prompt=prompt), message)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("video.avi", [], "must end in .mp4 or .png"),
        ("video.png", [], "holds 1 frame, not 5"),
        ("video", ["--frames", "1"], "must end in .mp4 or .png"),
    ],
)
def test_an_output_of_another_kind_is_refused_before_the_work(
    generate, tmp_path, monkeypatch, output, options, message
):
    monkeypatch.setattr(ProgressBars, "__call__", no_work)
    target = tmp_path / "out" / output
    status, said, _ = generate(V5_1, Head.T2V, *options, "--output", target)
    check_refused(status, said, target, message)


def no_work(*call):
    raise AssertionError(f"the work began: {call[1:]}")


def test_an_open_length_does_not_hide_a_wrong_output(checkpoint, tmp_path, capsys):
    for name in ("video.avi", "video.png"):
        words = ["--model", str(checkpoint(V5_1, Head.T2V)), "--output", str(tmp_path / name)]
        assert main(["generate", "--prompt", "x", *words]) == 2
        assert "error: " in capsys.readouterr().err


def test_a_source_is_not_written_over(generate, tmp_path):
    clip = write_mp4(tmp_path / "clip.mp4", pixels(1, frames=FRAMES))
    before = clip.read_bytes()
    status, said, _ = generate(V5_1, Head.T2V, "--video", clip, "--output", clip)
    assert status == 2
    assert "would overwrite its own source" in said.err
    assert clip.read_bytes() == before


def test_an_output_where_none_can_be(generate, tmp_path, monkeypatch):
    monkeypatch.setattr(ProgressBars, "__call__", no_work)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    for target, message in (
        (tmp_path / "file" / "video.mp4", "file is not a folder"),
        (tmp_path / "folder.mp4", "is a folder; name a file"),
    ):
        status, said, _ = generate(V5_1, Head.T2V, "--output", target)
        assert (status, message in said.err) == (2, True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_a_full_disk_is_told_before_the_work(generate, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(ProgressBars, "__call__", no_work)
    check_refused(*generate(V5_1, Head.T2V), r"has 1\.0 MB free; 50 MB are needed")


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("fault", ["truncated", "pickle", "missing", "shapes"])
def test_a_damaged_checkpoint(generate, checkpoint_copy, part, fault):
    from safetensors.torch import load_file, save_file

    folder = checkpoint_copy(V5_1, Head.T2V)
    file = next((folder / part).glob("*.safetensors"))
    message = {
        "truncated": "is not a valid safetensors file",
        "pickle": "is a pickle",
        "missing": "has no .safetensors file",
        "shapes": "of the wrong shape",
    }[fault]
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "pickle":
        file.rename(file.with_suffix(".bin"))
    elif fault == "missing":
        file.unlink()
    else:
        tensors = load_file(file)
        name = next(name for name in tensors if name.endswith("bias"))
        save_file({**tensors, name: torch.zeros(3)}, file)
    check_refused(*generate(None, None, "--model", folder), message)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dream"],
        ["describe"],
        ["generate", "--size", "64"],
        ["generate", "--size", "64x96x3"],
        ["generate", "--size", "axb"],
        ["generate", "--frames", "five"],
        ["generate", "--short", "loop"],
        ["generate", "--unknown"],
        ["make-tiny", "x", "--head", "Reference"],
    ],
)
def test_words_that_are_no_command(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# Ctrl-C


@pytest.fixture
def heeds_ctrl_c():
    """A process started in the background ignores SIGINT; these tests need Python's own handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("stage", ["load", "encode", "denoise", "decode"])
def test_ctrl_c_leaves_nothing(generate, monkeypatch, stage):
    shown = ProgressBars.__call__

    def interrupt(self, name, done, total):
        shown(self, name, done, total)
        if name == stage:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressBars, "__call__", interrupt)
    status, said, output = generate(V5_1, Head.INPAINT, "--start-image", "@picture.png")
    assert status == 130
    assert "Stopped. No partial file was left." in said.err
    assert not output.parent.exists()


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_while_the_video_is_written(generate, monkeypatch):
    calls = []

    def interrupt(frame):
        calls.append(frame)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return to_bytes(frame)

    to_bytes = writer.to_bytes
    monkeypatch.setattr(writer, "to_bytes", interrupt)
    status, _, output = generate(V5_1, Head.T2V)
    assert status == 130
    assert len(calls) == 3
    assert not list(output.parent.iterdir())


def test_progress_bars_show_the_stages(generate, monkeypatch):
    """On a terminal; elsewhere nothing but the result is printed."""
    from tqdm import tqdm

    shown = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    update = tqdm.update

    def watched(bar, count=1):
        update(bar, count)
        shown.append((bar.desc, bar.n, bar.total))

    monkeypatch.setattr(tqdm, "update", watched)
    assert generate(V5_1, Head.T2V)[0] == 0
    assert ("Denoising", STEPS, STEPS) in shown
    assert {name for name, _, _ in shown} == {"Loading", "Denoising", "Decoding"}


def test_a_start_picture_of_another_size_is_noted(generate, tmp_path):
    wide = write_png(tmp_path / "wide.png", pixels(1, height=64, width=192)[0])
    status, said, _ = generate(V5_1, Head.INPAINT, "--start-image", wide)
    assert status == 0
    assert "note: The image at frame 0 is cropped to 64 x 96: 50% cut off." in said.out


# Long prompts


def test_a_long_prompt_is_printed_and_kept_in_the_recipe(generate):
    status, printed, output = generate(V5_1, Head.INPAINT, "--start-image", "@picture.png",
                                       "--enhance", "en")  # fmt: skip
    assert status == 0
    recipe = Recipe.read(output)
    assert recipe.original_prompts == ("A dog.",)
    (long,) = recipe.prompts
    assert long not in ("", "A dog.")
    assert "prompt: " in printed.out
    again = output.with_name("again.mp4")
    assert main(["generate", "--recipe", str(output), "--yes", "--output", str(again)]) == 0
    assert Recipe.read(again).prompts == recipe.prompts
    assert Recipe.read(again).original_prompts == ("A dog.",)


@pytest.mark.parametrize(
    ("version", "options", "said"),
    [
        (V5, (), "cannot write prompts. Use a V5.1 checkpoint"),
        (None, (), "small model"),
        (V5_1, ("--embeddings", "x.safetensors"), "--enhance writes a prompt"),
    ],
)
def test_what_cannot_write_a_long_prompt_says_so(generate, version, options, said):
    status, printed, output = generate(version, Head.INPAINT, "--enhance", *options)
    assert status != 0
    assert said in printed.err
    assert not output.exists()
