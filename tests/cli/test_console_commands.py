"""Every command on consoles of other encodings, with Chinese prompts, results, caches and users."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from easyanimate_core.cli.main import build_parser
from easyanimate_core.media import read_video, write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.lora import matrix_shapes
from tests.factories import FRAMES, HEIGHT, V5_1, WIDTH, lora_tensors, make_link, pixels

ROOT = Path(__file__).parents[2]
SIZE = ("--size", f"{HEIGHT}x{WIDTH}")
QUICK = ("--steps", 2, "--frames", FRAMES, *SIZE, "--prompt", "一只猫😀")
ENCODINGS = ("cp1252", "gbk")
#: Commands that take some seconds even so.
SLOW = {"demo", "train"}


@pytest.fixture(scope="module")
def given(tmp_path_factory, checkpoint):
    """The inputs of all commands, in a folder with a Chinese name."""
    folder = tmp_path_factory.mktemp("console") / "素材😀"
    folder.mkdir()
    make_link(folder / "模型", checkpoint(V5_1, Head.INPAINT))
    make_link(folder / "训练", checkpoint(V5_1, Head.T2V))
    shapes = matrix_shapes(inspect_checkpoint(folder / "模型").transformer_files)
    save_file(lora_tensors(shapes), folder / "画风.safetensors")
    (folder / "数据" / "clips").mkdir(parents=True)
    write_mp4(folder / "数据" / "clips" / "猫.mp4", pixels(frames=9), fps=8)
    (folder / "数据" / "clips" / "坏.mp4").write_bytes(b"not a video" * 99)
    write_png(folder / "猫.png", pixels()[0])
    captions = [{"file_path": f"clips/{name}.mp4", "text": "一只猫"} for name in "猫坏"]
    (folder / "标注.json").write_text(json.dumps(captions), encoding="utf-8")
    run = {
        "task": "text_to_video", "output": "unused",
        "model": {"checkpoint": str(folder / "训练")},
        "data": {
            "synthetic": {"count": 4, "height": 32, "width": 32, "frames": 5},
            "tokens": [8], "frames": [5], "tokens_per_batch": 16,
        },
        "run": {"steps": 1, "save_every": 1, "log_every": 1, "tensorboard": False},
        "validation": {"clips": 1, "videos": 1, "steps": 1},
    }  # fmt: skip
    (folder / "训练.yaml").write_text(json.dumps(run, ensure_ascii=False), encoding="utf-8")
    return folder


def lines_of(given, out):
    """What is typed after each command's name, line after line, and what it leaves in `out`."""
    model, clips = given / "模型", given / "数据" / "clips"
    data, report = given / "数据", out / "报告"
    tracks = '[[{"x": 10, "y": 10}, {"x": 80, "y": 40}]]'
    return {
        "generate": [
            (["--model", model, *QUICK, "--start-image", given / "猫.png", "--output",
              out / "果.mp4"], ["果.mp4", "果.json"]),
            (["--steps", 1, "--prompt", "一个红色的大圆形在灰色条纹上向左移动。", "--output",
              out / "小.mp4", "--frames", 5, "--size", "32x32"], ["小.mp4"]),
        ],
        "encode": [(["--model", model, "--prompt", "猫", "--out", out / "词.safetensors"],
                    ["词.safetensors"])],
        "plan": [(["--model", model, "--vram", 24], [])],
        "download": [(["--list", "--to", out], [])],
        "doctor": [(["--quick", "--models", given, "--output", out / "页.md"], ["页.md"])],
        "describe": [([model], []), ([given / "画风.safetensors"], [])],
        "convert": [([model, out / "八.safetensors", "--dtype", "fp8"], ["八.safetensors"])],
        "merge-lora": [([model, out / "并.safetensors", "--lora", given / "画风.safetensors"],
                        ["并.safetensors"])],
        "preprocess": [(["--kind", "canny", clips / "猫.mp4", out / "线.mp4"], ["线.mp4"])],
        "camera": [(["--moves", "CW", "--out", out / "镜.txt", "--preview", out / "镜.png"],
                    ["镜.txt", "镜.png"])],
        "trajectory": [([tracks, out / "轨.mp4", *SIZE, "--frames", FRAMES], ["轨.mp4"])],
        "prepare-data": [
            (["scenes", clips, out / "场", "--min-seconds", "0.2", "--workers", 1],
             ["场/preparation/scenes.json"]),
            (["filter", data, "--no-ocr", "--workers", 1], []),
            (["deduplicate", data, "--workers", 1], []),
            (["caption", data, "--from", given / "标注.json"], []),
            (["manifest", data, out / "清单.json", "--workers", 1], ["清单.json"]),
            (["report", data], []),
        ],
        "train": [([given / "训练.yaml", "--set", f"output={out / '训'}"], ["训/result"])],
        "make-clips": [([out / "片", "--count", 1, "--size", "32x32", "--language", "zh"],
                        ["片/metadata.json"])],
        "evaluate": [([clips / "猫.mp4", "--out", report], ["报告/report.json"])],
        "evaluate-meaning": [(["--rendered", "clean", "--count", 1, "--tasks", "text", "--frames",
                               5, "--out", out / "懂"], ["懂/report.json"])],
        "compare-runs": [([report, report, "--out", out / "比"], ["比/compare.json"])],
        "make-tiny": [([out / "小"], ["小/transformer"])],
        "app": [],  # it serves until it is stopped: tests/core/app
        "demo": [(["--out", out / "演", "--steps", 2], ["演/contact_sheet.png"])],
    }  # fmt: skip


def all_commands():
    return [*next(a for a in build_parser()._actions if a.dest == "command").choices]


def test_every_command_has_a_line(tmp_path):
    assert lines_of(tmp_path, tmp_path).keys() == set(all_commands())


def run_all(names, given, folder):
    """The commands on every console, in one process; for each encoding what was printed."""
    home = folder / "用户"
    home.mkdir()
    runs = []
    for encoding in ENCODINGS:
        out = folder / encoding / "结果😀"
        out.mkdir(parents=True)
        found = lines_of(given, out)
        for name in names:
            for words, files in found[name]:
                runs.append((encoding, [name, *map(str, words)], [out / file for file in files]))
    left_out = ("EASYANIMATE_CACHE", "PYTHON", "LC_", "LANG", "XDG_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    options = ["-I", "-X", "utf8", "-X", "warn_default_encoding"]
    done = subprocess.run(
        [sys.executable, *options, ROOT / "tests" / "console_driver.py"],
        input=json.dumps([(encoding, words) for encoding, words, _ in runs]).encode("ascii"),
        env={**env, "HOME": str(home), "USERPROFILE": str(home), "OMP_NUM_THREADS": "1"},
        cwd=given,
        capture_output=True,
        check=False,
    )
    problems = done.stderr.decode("ascii", "replace")
    assert done.returncode == 0, problems
    assert "Traceback" not in problems
    own = rf"^.*{re.escape(str(ROOT))}.*EncodingWarning.*$"
    assert re.findall(own, problems, re.MULTILINE) == []
    parts = re.split(rb"^## (\d+)\n", done.stdout, flags=re.MULTILINE)
    said = dict.fromkeys(ENCODINGS, "")
    for (encoding, words, files), text, status in zip(runs, parts[::2], parts[1::2], strict=False):
        assert status == b"0", (words, problems)
        assert [file for file in files if not file.exists()] == []
        said[encoding] += text.decode(encoding)
    assert len(parts) == 2 * len(runs) + 1
    return said


@pytest.mark.slow
def test_every_command_on_every_console(given, tmp_path):
    said = run_all([name for name in all_commands() if name not in SLOW], given, tmp_path)
    for encoding in ENCODINGS:
        out = tmp_path / encoding / "结果😀"
        assert read_video(out / "果.mp4").frames.shape[0] == FRAMES
        recipe = json.loads((out / "果.json").read_text(encoding="utf-8"))
        assert recipe["prompts"] == ["一只猫😀"]
        for name in ("果.mp4", "镜.txt", "线.mp4", "轨.mp4", "八.safetensors", "词.safetensors"):
            shown = str(out / name).encode(encoding, "backslashreplace").decode(encoding)
            assert shown in said[encoding]
    assert list((tmp_path / "用户").rglob("small-model"))


@pytest.mark.campaign
@pytest.mark.parametrize("name", sorted(SLOW))
def test_long_commands_on_every_console(given, tmp_path, name):
    run_all([name], given, tmp_path)
