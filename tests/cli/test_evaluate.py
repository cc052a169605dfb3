"""The commands evaluate, evaluate-meaning and compare-runs: reports and refusals."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from easyanimate_core import small_model
from easyanimate_core.cli.main import main
from easyanimate_core.evaluation import compare_reports
from easyanimate_core.media import read_video, write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.shapes.judge.meaning import clip_of
from easyanimate_core.shapes.scenes import make_scene
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.lora import matrix_shapes
from tests.factories import V5, V5_1, grey, lora_tensors, write_film


def clip(index):
    return clip_of(make_scene(11, index, height=32, width=48, frames=5))


@pytest.fixture
def folders(tmp_path):
    """Two references, the same as made well, and as made badly."""
    for index, name in enumerate(("one", "sub/two")):
        frames = clip(index)
        write_mp4(tmp_path / "references" / f"{name}.mp4", frames, crf=0)
        write_mp4(tmp_path / "good" / f"{name}.mp4", frames, crf=0)
        level = torch.tensor([0.8, 1.0, 0.8, 1.0, 0.8]).view(-1, 1, 1, 1)
        write_mp4(tmp_path / "bad" / f"{name}.mp4", frames * level, crf=0)
    return tmp_path


@pytest.fixture
def command(capsys):
    """`command(*words)`: status, and what was printed."""

    def run(*words):
        status = main([str(word) for word in words])
        return status, capsys.readouterr()

    return run


def read(folder, name="report.json"):
    return json.loads((folder / name).read_text())


def test_evaluate_writes_numbers_and_a_page(folders, command):
    out = folders / "out"
    status, said = command(
        "evaluate", folders / "bad", "--against", folders / "references", "--out", out
    )
    assert status == 0, said.err
    report = read(out)
    assert list(report["videos"]) == ["one", "sub/two"]
    for numbers in report["videos"].values():
        assert 10 < numbers["psnr_db"] < 30
        assert numbers["flicker_percent"] > 2
    mean = sum(numbers["psnr_db"] for numbers in report["videos"].values()) / 2
    assert report["spreads"]["psnr_db"]["mean"] == pytest.approx(mean)
    assert f"PSNR, dB {mean:.4g}" in re.sub(" +", " ", said.out)
    page = (out / "report.html").read_text()
    assert "sub/two" in page
    pictures = re.findall(r"<img src='([^']+)'", page)
    assert len(pictures) == 3
    assert all((out / picture).is_file() for picture in pictures)


def test_equal_videos_are_as_like_as_can_be(folders, command):
    command(
        "evaluate", folders / "good", "--against", folders / "references", "--out", folders / "o"
    )
    for numbers in read(folders / "o")["videos"].values():
        assert numbers["psnr_db"] == 100
        assert numbers["ssim"] == pytest.approx(1)


def test_a_picture_alone_has_likeness_and_no_motion(folders, command):
    picture, reference = (write_png(folders / name, clip(0)[:1]) for name in ("a.png", "b.png"))
    status, said = command("evaluate", picture, "--against", reference, "--out", folders / "o")
    assert status == 0, said.err
    assert set(read(folders / "o")["videos"]["a"]) == {"psnr_db", "ssim"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "references/sub/two.mp4").unlink(),
            "lacks the references of 1 of 2 videos, such as 'sub/two'",
        ),
        (
            lambda f: write_mp4(f / "references/one.mp4", clip(0)[:4]),
            "one: The video has 5 frames of 48 x 32 and its reference 4 frames",
        ),
        (lambda f: write_png(f / "bad/one.png", clip(0)[:1]), "have the same name"),
    ],
    ids=["missing", "shorter", "same name"],
)
def test_videos_that_do_not_fit_are_refused_before_the_work(folders, command, change, message):
    change(folders)
    out = folders / "out"
    status, said = command(
        "evaluate", folders / "bad", "--against", folders / "references", "--out", out
    )
    assert status == 2
    assert message in said.err
    assert not out.exists()


@pytest.mark.parametrize("damaged", ["bad/one.mp4", "references/one.mp4"])
def test_a_video_that_cannot_be_read_is_named_and_left_out(folders, command, damaged):
    (folders / damaged).write_bytes(b"nothing")
    out = folders / "out"
    words = [folders / "bad", "--against", folders / "references", "--out", out]
    status, said = command("evaluate", *words)
    assert (status, "1 cannot be read and are skipped:\n  one: " in said.out) == (0, True)
    report = read(out)
    assert list(report["videos"]) == ["sub/two"]
    assert "not a video" in report["unreadable"]["one"]
    for file in (folders / "bad").rglob("*.mp4"):
        file.write_bytes(b"nothing")
    status, said = command("evaluate", *words, "--force")
    assert (status, "No video can be read." in said.err) == (2, True)


@pytest.mark.slow
def test_what_is_changed_in_a_video_is_told(tmp_path, command):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = 2

    write_film(tmp_path / "a.mp4", [grey(0.5)] * 9, [i / 8 for i in range(9)], set_up=wide)
    write_mp4(tmp_path / "square.mp4", read_video(tmp_path / "a.mp4").frames, fps=8)
    note = "Its pixels are not square (2:1): 96 x 64 is shown as 192 x 64."
    out, square = tmp_path / "out", tmp_path / "square.mp4"
    status, said = command("evaluate", tmp_path / "a.mp4", "--against", square, "--out", out)
    assert (status, f"note: a: {note}" in said.out) == (0, True)
    assert read(out)["notes"] == {"a": [note]}
    words = ["evaluate", square, "--against", tmp_path / "a.mp4", "--out", out, "--force"]
    assert f"note: square: Its reference: {note}" in command(*words)[1].out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clip", "clip"], "needs both prompts and a CLIP model"),
        (["--i3d", "i3d.pt"], "there are 2 videos and 0 references"),
        (["--i3d", "i3d.pt", "--against", "{}/references"], "has 5 frames; FVD needs at least 10"),
        (
            ["--prompts", "{}/prompts.json", "--clip", "{}/none"],
            "has no prompt for 1 of 2 videos, such as 'sub/two'",
        ),
        (["--prompts", "{}/good.json", "--clip", "{}/none"], "none has no config.json"),
    ],
)
def test_missing_weights_and_prompts_are_refused(folders, command, options, message):
    rows = [{"file_path": f"videos/{name}.mp4", "text": "A dog."} for name in ("one", "two")]
    (folders / "good.json").write_text(json.dumps(rows))
    (folders / "prompts.json").write_text(json.dumps(rows[:1]))
    words = [word.format(folders) for word in options]
    status, said = command("evaluate", folders / "bad", *words, "--out", folders / "out")
    assert status == 2
    assert message in said.err


def test_runs_are_compared_video_by_video(folders, command):
    for run in ("good", "bad"):
        command(
            "evaluate",
            folders / run,
            "--against",
            folders / "references",
            "--out",
            folders / f"{run}_out",
        )
    out = folders / "compared"
    status, said = command("compare-runs", folders / "bad_out", folders / "good_out", "--out", out)
    assert status == 0, said.err
    found = {
        difference["name"]: difference for difference in read(out, "compare.json")["differences"]
    }
    for name in ("psnr_db", "ssim", "flicker_percent"):
        assert (found[name]["wins_a"], found[name]["wins_b"]) == (0, 2)
        assert found[name]["p"] == 0.5  # two of two, either way
    assert found["psnr_db"]["change"]["mean"] > 0 > found["flicker_percent"]["change"]["mean"]
    assert found["motion_pixels"]["wins_a"] is None
    assert "PSNR" in said.out
    assert "differences.png" in (out / "compare.html").read_text()
    same = compare_reports(folders / "bad_out", folders / "bad_out" / "report.json")
    assert all(difference.ties == 2 for difference in same.differences)
    assert {difference.p for difference in same.differences if difference.wins_a is not None} == {
        1.0
    }


def test_reports_without_a_common_video_are_refused(tmp_path, command):
    for name, kind in (("a", "videos"), ("b", "videos"), ("c", "meaning")):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"kind": kind, "videos": {name: {"ssim": 1}}})
        )
    words = [tmp_path / "b.json", "--out", tmp_path / "out"]
    status, said = command("compare-runs", tmp_path / "a.json", *words)
    assert (status, "no video in common (1 and 1 videos)" in said.err) == (2, True)
    status, said = command("compare-runs", tmp_path / "c.json", *words)
    assert (status, "compare two reports of the same command" in said.err) == (2, True)
    (tmp_path / "a.json").write_text("[]")
    status, said = command("compare-runs", tmp_path / "a.json", *words)
    assert (status, "is not a report of evaluate" in said.err) == (2, True)


def test_meaning_of_a_checkpoint(checkpoint, tmp_path, command):
    words = ["--tasks", "trajectory", "--count", 2, "--size", "48x48", "--frames", 5, "--steps", 1,
             "--guidance-scale", 1, "--device", "cpu", "--out", tmp_path / "out"]  # fmt: skip
    status, said = command("evaluate-meaning", checkpoint(V5_1, Head.CONTROL), *words)
    assert status == 0, said.err
    report = read(tmp_path / "out")
    assert list(report["videos"]) == ["trajectory/990000-0000", "trajectory/990000-0001"]
    assert report["tasks"][0]["shares"]["all"]["right"] == 0
    assert report["run"]["settings"]["steps"] == 1
    assert "trajectory: 2 clips" in said.out
    status, said = command(
        "compare-runs", tmp_path / "out", tmp_path / "out", "--out", tmp_path / "c"
    )
    assert status == 0, said.err


def test_meaning_of_rendered_scenes(tmp_path, command):
    words = ["--rendered", "clean", "--tasks", "text", "--count", 3, "--out", tmp_path / "out"]
    status, said = command("evaluate-meaning", *words)
    assert status == 0, said.err
    assert read(tmp_path / "out")["tasks"][0]["shares"]["all"]["value"] == 1


QUICK = ["--size", "48x48", "--frames", 5, "--device", "cpu"]


@pytest.fixture
def lora(checkpoint, tmp_path):
    """A LoRA that fits the tiny V5.1 InP checkpoint."""
    files = inspect_checkpoint(checkpoint(V5_1, Head.INPAINT)).transformer_files
    save_file(lora_tensors(matrix_shapes(files.weights)), tmp_path / "few.safetensors")
    return tmp_path / "few.safetensors"


def test_meaning_by_scheduler_and_steps_has_a_report_each_and_an_overview(
    checkpoint, tmp_path, command
):
    out = tmp_path / "out"
    words = [checkpoint(V5, Head.T2V), "--tasks", "text", "--count", 1, *QUICK, "--scheduler",
             "Euler A", "PNDM", "--steps", 4, 5, "--guidance-scale", 1, "--out", out]  # fmt: skip
    status, said = command("evaluate-meaning", *words)
    assert status == 0, said.err
    rows = read(out, "overview.json")["rows"]
    found = [(row["scheduler"], row["steps"], row["evaluations_per_clip"]) for row in rows]
    pndm = 4 * 3  # its first steps are evaluated four times
    assert found == [("Euler A", 4, 4), ("Euler A", 5, 5), ("PNDM", 4, pndm + 1),
                     ("PNDM", 5, pndm + 2)]  # fmt: skip
    table = (out / "overview.md").read_text(encoding="utf-8")
    assert table in said.out
    assert table.count("\n") == 2 + len(rows)
    for scheduler, steps, evaluations in found:
        run = read(out / f"{scheduler.replace(' ', '-')}-steps-{steps}")["run"]
        assert (run["settings"]["scheduler"], run["settings"]["steps"]) == (scheduler, steps)
        assert run["evaluations_per_clip"] == {"text": evaluations}
    status, said = command("evaluate-meaning", *words)
    assert (status, "overview.md already exists" in said.err) == (2, True)


def test_meaning_with_a_lora_and_guidance_by_task(checkpoint, tmp_path, command, lora):
    out = tmp_path / "out"
    words = [checkpoint(V5_1, Head.INPAINT), "--tasks", "text", "start", "--count", 1, *QUICK,
             "--steps", 2, "--guidance-scale", 3, "start=1"]  # fmt: skip
    status, said = command("evaluate-meaning", *words, "--lora", f"{lora}=0.5", "--out", out)
    assert status == 0, said.err
    assert "evaluations of the denoiser per clip: text 4, start 2" in said.out
    assert "note: few.safetensors: " in said.out
    run = read(out)["run"]
    assert run["guidance_scales"] == {"text": 3, "start": 1}
    assert [(used["file"], used["strength"]) for used in run["loras"]] == [("few.safetensors", 0.5)]
    assert run["checkpoint"]["head"] == "InP"
    command("evaluate-meaning", *words, "--out", tmp_path / "plain")
    assert read(tmp_path / "plain")["videos"] != read(out)["videos"]


def test_meaning_of_several_lists_of_scenes(tmp_path, command):
    words = ["--rendered", "soft", "--tasks", "text", "--count", 2, "--frames", 5]
    out = tmp_path / "out"
    status, said = command("evaluate-meaning", *words, "--scenes-seed", 7, 5, "--out", out)
    assert status == 0, said.err
    (task,) = read(out)["tasks"]
    assert (task["clips"], [of["seed"] for of in task["seeds"]]) == (4, [7, 5])
    assert read(out)["run"]["scenes_seeds"] == [7, 5]
    command("evaluate-meaning", *words, "--scenes-seed", 5, "--out", tmp_path / "alone")
    (alone,) = read(tmp_path / "alone")["tasks"]
    assert task["seeds"][1]["shares"] == alone["shares"]
    over = task["over_seeds"]["colour"]
    values = [of["shares"]["colour"]["value"] for of in task["seeds"]]
    assert (over["least"], over["most"]) == (min(values), max(values))
    assert "2 seeds " in said.out


@pytest.mark.skipif(not small_model.is_installed(), reason="the small model is not there")
def test_meaning_of_a_built_in_model_by_its_name(tmp_path, command):
    names = list(small_model.NAMES)[1:3]
    words = ["--count", 1, "--steps", 1, "--guidance-scale", 1, "--frames", 5]
    status, said = command("evaluate-meaning", *names, *words, "--out", tmp_path / "out")
    assert status == 0, said.err
    rows = read(tmp_path / "out", "overview.json")["rows"]
    assert list(dict.fromkeys(row["checkpoint"] for row in rows)) == names
    assert {row["evaluations_per_clip"] for row in rows} == {1}
    folders = ("small-built-in-Control", "small-built-in-Control-Camera")
    assert [read(tmp_path / "out" / folder)["run"]["made_by"] for folder in folders] == names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenes-seed", 5, 6, 5], "--scenes-seed has 5 more than once"),
        (["--scenes-seed", -1], "The seed -1"),
        (["--seed", 2**63 - 1], "seed is 9223372036854775906; it must be between 0 and"),
        (["--steps", 2, "--steps", 2], "--steps has 2 more than once"),
        (["--steps", 2, 0], "steps is 0; it must be between 1 and 1000"),
        (["--scheduler", "Flow", "DDIM"], "DDIM is for v_prediction models"),
        (["--tasks", "text", "text"], "--tasks has text more than once"),
        (["--tasks", "text", "dance"], "does not support dance; it supports text, start"),
        (["--guidance-scale", 4, "dance=1"], "'dance=1' is not SCALE or TASK=SCALE"),
        (["--guidance-scale", 4, "text=four"], "'text=four' is not SCALE or TASK=SCALE"),
        (["--guidance-scale", "=4"], "'=4' is not SCALE or TASK=SCALE"),
        (["--guidance-scale", 4, 5], "two values for all tasks"),
        (["--guidance-scale", "text=0.5"], "guidance scale is 0.5; it must be at least 1"),
        (["--guidance-scale", "camera=2"], "has a value for camera, but what is judged is region"),
        (["--lora", "no.safetensors"], "no.safetensors"),
        (["--lora", "no.pt"], "is a pickle, which can run code"),
        (["--lora-partial"], "--lora-partial has no effect without --lora"),
    ],
)
def test_meaning_refuses_options_before_anything_is_made(
    checkpoint, tmp_path, command, words, message
):
    out = ["--out", tmp_path / "out"]
    status, said = command("evaluate-meaning", checkpoint(V5_1, Head.INPAINT), *words, *out)
    assert (status, message in said.err) == (2, True), said.err
    assert not (tmp_path / "out").exists()


def test_meaning_refuses_a_lora_that_fits_only_the_first_checkpoint(
    checkpoint, tmp_path, command, lora
):
    both = [checkpoint(V5_1, Head.INPAINT), checkpoint(V5, Head.INPAINT)]
    out = ["--lora", lora, "--out", tmp_path / "out"]
    status, said = command("evaluate-meaning", *both, *out)
    assert (status, "few.safetensors" in said.err) == (2, True)
    status, said = command("evaluate-meaning", "--rendered", "clean", "--steps", 2, *out)
    assert (status, "omit --lora, --steps" in said.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_meaning_refuses_before_anything_is_made(checkpoint, tmp_path, command):
    out = ["--out", tmp_path / "out"]
    status, said = command("evaluate-meaning", *out)
    assert (status, "needs either checkpoints or --rendered" in said.err) == (2, True)
    camera = checkpoint(V5_1, Head.CAMERA)
    status, said = command("evaluate-meaning", camera, "--tasks", "text", *out)
    assert (status, "does not support text; it supports camera" in said.err) == (2, True)
    status, said = command("evaluate-meaning", camera, camera, *out)
    assert (status, "the names must differ" in said.err) == (2, True)
    status, said = command("evaluate-meaning", camera, "--count", 0, *out)
    assert (status, "at least 1 is needed" in said.err) == (2, True)
    assert not (tmp_path / "out").exists()
