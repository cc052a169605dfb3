"""Commands as users of ComfyUI's portable version type them: an isolated Python, a script's path.

The portable Python is the embeddable one: a ._pth file beside it alone says where modules lie. It
reads no environment variable and looks neither beside the script nor in the current folder. Python
3.11 and newer take such a file on other systems too.
"""

import json
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from easyanimate_core.files.commands import joined
from easyanimate_core.media import read_video, write_mp4
from easyanimate_core.models.specs import Head
from tests.factories import FRAMES, HEIGHT, V5_1, WIDTH, make_link, pixels
from tests.training_runs import settings

ROOT = Path(__file__).parents[2]
PACK = "ComfyUI/custom_nodes/ComfyUI-EasyAnimate"
QUICK = ("--steps", 2, "--frames", FRAMES, "--size", f"{HEIGHT}x{WIDTH}", "--prompt", "a cat")
posix = pytest.mark.skipif(sys.platform == "win32", reason="another shell")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A portable ComfyUI whose folder's name has spaces, hyphens and Chinese."""
    root = tmp_path_factory.mktemp("portable") / "便携 ComfyUI-windows portable"
    (root / PACK).parent.mkdir(parents=True)
    (root / "ComfyUI" / "models").mkdir()
    (root / "ComfyUI" / "main.py").touch()
    make_link(root / PACK, ROOT)
    python = root / "python_embeded" / "python.exe"
    python.parent.mkdir()
    make_link(python, sys._base_executable)
    paths = sysconfig.get_paths()
    lines = [paths["stdlib"], sysconfig.get_config_var("DESTSHARED"), paths["purelib"], "."]
    python.with_name("python.exe._pth").write_text("\n".join(map(str, lines)), encoding="utf-8")
    command = [python, "-c", "import sys; print(sys.flags.isolated, sys.path[-1])"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.stdout != f"1 {python.parent}\n":
        pytest.skip("this Python takes no ._pth file")
    return root


def portable(folder, script, *words, options=(), cwd=None, **env):
    """The script of the pack in the portable Python, by its path from the portable folder."""
    path = Path(PACK, script) if cwd is None else folder / PACK / script
    start = "python_embeded/python.exe" if cwd is None else folder / "python_embeded/python.exe"
    return subprocess.run(
        [str(word) for word in (start, *options, path, *words)],
        cwd=folder if cwd is None else cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_help_shows_what_was_typed(folder):
    typed = f"python_embeded/python.exe -s {PACK}/easyanimate.py"
    done = portable(folder, "easyanimate.py", "--help", options=["-s"])
    assert (done.returncode, done.stderr) == (0, "")
    assert " ".join(done.stdout.split()).startswith(f"usage: {typed} [-h]")
    assert f"{typed} generate --prompt" in " ".join(done.stdout.split())
    done = portable(folder, "easyanimate.py", "train", "--help", options=["-s"])
    assert f"\n  {typed} train configs/v5.1-lora.yaml\n" in done.stdout
    done = portable(folder, "install.py", "--help", options=["-s"])
    assert " ".join(done.stdout.split()).startswith(f"usage: {typed} download [-h]")


@pytest.mark.slow
def test_a_video_is_made_from_any_folder(folder, checkpoint, tmp_path):
    """On a console of ASCII, which this Python cannot be told otherwise."""
    model = checkpoint(V5_1, Head.T2V)
    here = tmp_path / "my videos-视频"
    here.mkdir()
    words = ["generate", "--model", model, *QUICK, "--output", "猫.mp4"]
    ascii_console = {"LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}
    done = portable(
        folder, "easyanimate.py", *words, options=["-X", "utf8=0"], cwd=here, **ascii_console
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in here.iterdir()) == ["猫.json", "猫.mp4"]
    assert read_video(here / "猫.mp4").frames.shape[0] == FRAMES
    name = "猫.mp4".encode().decode("ascii", "surrogateescape")
    assert name.encode("ascii", "backslashreplace").decode() in done.stdout


@pytest.mark.slow
def test_processes_that_work_for_a_command(folder, tmp_path):
    """They are spawned, and so run the script's first lines again."""
    (tmp_path / "视频").mkdir()
    for name in ("一", "二"):
        write_mp4(tmp_path / "视频" / f"{name}.mp4", pixels(frames=9), fps=8)
    (tmp_path / "视频" / "坏.mp4").write_bytes(b"not a video" * 99)
    words = ["scenes", tmp_path / "视频", tmp_path / "数据", "--workers", 2, "--min-seconds", 0.2]
    done = portable(folder, "easyanimate.py", "prepare-data", *words, options=["-X", "utf8"])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "数据" / "clips").iterdir())) == 2
    assert f"left out: {tmp_path / '视频' / '坏.mp4'}" in done.stdout


@pytest.mark.slow
def test_training_with_processes_that_read_ahead(folder, checkpoint, tmp_path):
    wanted = settings(tmp_path / "训", checkpoint(V5_1, Head.T2V), data__workers=2, run__steps=1)
    (tmp_path / "run.yaml").write_text(json.dumps(wanted), encoding="utf-8")
    words = ["train", tmp_path / "run.yaml"]
    done = portable(folder, "easyanimate.py", *words, options=["-X", "utf8"])
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "训" / "result").iterdir())


def test_install_in_the_portable_folder(folder):
    ascii_console = {"options": ["-s", "-X", "utf8=0"], "LC_ALL": "C"}
    shown = str(folder).encode().decode("ascii", "surrogateescape")
    shown = shown.encode("ascii", "backslashreplace").decode()
    done = portable(folder, "install.py", **ascii_console)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"  folder   {shown}/ComfyUI/models/EasyAnimate\n" in done.stdout
    assert f"/python_embeded/python.exe' -s '{shown}/{PACK}/install.py' NAME\n" in done.stdout
    done = portable(folder, "install.py", "--list", **ascii_console)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"Folders: {shown}/ComfyUI/models/EasyAnimate\n")


# What messages tell people to type


def said_by(folder, expression, *options):
    """What an expression of `files.packages` and `files.commands` is in the portable Python."""
    script = (
        f"import sys; sys.path.insert(0, {str(folder / PACK)!r})\n"
        "from easyanimate_core.files.commands import *\n"
        "from easyanimate_core.files.packages import *\n"
        f"print({expression})"
    )
    command = [folder / "python_embeded" / "python.exe", "-X", "utf8", *options, "-c", script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.strip()


@posix
def test_a_command_in_a_message_works_as_it_stands(folder, tmp_path):
    command = said_by(folder, "own_command('camera', '--moves', 'CW', '--out', '镜 头.txt')")
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "镜 头.txt").is_file()


def test_packages_are_installed_into_the_python_that_runs(folder):
    python = str(folder / "python_embeded" / "python.exe")
    words = shlex.split(said_by(folder, "pip_command('--no-deps', 'gguf>=0.17')", "-s"))
    assert words == [python, "-s", "-m", "pip", "install", "--no-deps", "gguf>=0.17"]
    words = shlex.split(said_by(folder, "command_for(['imagehash', 'yaml'])"))
    assert words == [python, "-m", "pip", "install", "imagehash>=4.3.1,<5", "pyyaml>=6"]
    without = (
        "[setattr(sys.modules[pip_command.__module__], '_release', {}.get), pip_command('gguf')][1]"
    )
    words = shlex.split(said_by(folder, without))
    assert words == ["uv", "pip", "install", "--python", python, "gguf"]


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        (r"C:\ComfyUI\python_embeded\python.exe", r"C:\ComfyUI\python_embeded\python.exe"),
        (r"D:\AI\便携\a.py", r"D:\AI\便携\a.py"),
        (r"C:\Program Files\a.py", r'"C:\Program Files\a.py"'),
        (r"C:\R&D\a.py", r'"C:\R&D\a.py"'),
        ("gguf>=0.17", '"gguf>=0.17"'),
    ],
)
def test_words_as_cmd_exe_takes_them(word, typed):
    assert joined("x", word, windows=True) == f"x {typed}"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("easyanimate.py", ["describe", "."]),
        ("install.py", ["EasyAnimateV5.1-7b-zh-InP", "--to", "x"]),
    ],
)
def test_another_python_without_the_packages(script, words):
    """As when somebody types `python` and not the Python of ComfyUI."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / script, *words],
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"is not installed in {sys.executable}. Use ComfyUI's Python" in done.stderr
    assert len(done.stderr.splitlines()) == 1
