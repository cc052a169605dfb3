"""Consoles of other encodings, readers that go away, and signals: the work done decides."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyanimate_core.cli.main import _COMMANDS, build_parser, main
from easyanimate_core.media import read_video, write_mp4, write_png
from easyanimate_core.models.specs import Head
from tests.factories import FRAMES, HEIGHT, V5_1, WIDTH, make_link, pixels

ROOT = Path(__file__).parents[2]
ENCODINGS = ("cp1252", "gbk", "ascii")
QUICK = ("--steps", 2, "--frames", FRAMES, "--size", f"{HEIGHT}x{WIDTH}")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def command(*words, encoding="utf-8", **more):
    """A command in a process of its own, with a console of `encoding`."""
    return subprocess.run(
        [sys.executable, "-m", "easyanimate_core", *map(str, words)],
        cwd=ROOT,
        env=environment(PYTHONIOENCODING=encoding, **more),
        capture_output=True,
        check=False,
    )


def all_commands():
    parsers = next(a for a in build_parser()._actions if a.dest == "command").choices
    assert len(parsers) == len(_COMMANDS)
    return [*parsers]


# Encodings


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", all_commands())
def test_every_help_on_every_console(name, encoding):
    words = [name, "scenes", "--help"] if name == "prepare-data" else [name, "--help"]
    done = command(*words, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"usage: python -m easyanimate_core {name}" in done.stdout.decode(encoding)


def test_help_is_quick():
    """What takes seconds to import is imported by the commands that need it."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "easyanimate_core", "generate", "--help"],
        cwd=ROOT, env=environment(), capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    imported = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "easyanimate_core" in imported
    assert imported.isdisjoint({"torch", "numpy", "transformers", "av", "PIL", "tqdm"})


@pytest.mark.slow
def test_what_a_console_lacks_is_escaped(checkpoint, tmp_path):
    folder = tmp_path / "模型"
    make_link(folder, checkpoint(V5_1, Head.T2V))
    done = command("describe", folder, encoding="cp1252")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u6a21\u578b" in done.stdout
    done = command("describe", folder, "--json", encoding="ascii")
    assert b'"path": "' in done.stdout
    assert rb"\u6a21\u578b" in done.stdout
    missing = command("describe", tmp_path / "不", encoding="gbk")
    assert missing.returncode == 2
    assert "不".encode("gbk") in missing.stderr


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_result_whose_name_the_console_lacks(tmp_path, encoding):
    tracks = '[[{"x": 10, "y": 10}, {"x": 80, "y": 40}]]'
    output = tmp_path / "猫😀.mp4"
    done = command(
        "trajectory", tracks, output, "--size", "64x96", "--frames", "5", encoding=encoding
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert output.is_file()
    assert rb"\U0001f600.mp4" in done.stdout


@posix
def test_a_name_that_the_file_systems_encoding_lacks(tmp_path):
    """In the locale C, with Python's UTF-8 mode switched off."""
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "easyanimate_core", "camera", "--moves", "CW",
         "--out", str(tmp_path / "镜.txt")],
        cwd=ROOT, env=environment(LC_ALL="C"), capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["镜.txt"]
    assert rb"\udce9\udc95\udc9c.txt" in done.stdout


@posix
def test_a_chinese_system_before_utf_8(tmp_path):
    """Its locale says how names of files, options and the console are written: in GBK."""
    localedef = shutil.which("localedef")
    made = localedef and subprocess.run(
        [localedef, "-f", "GBK", "-i", "zh_CN", tmp_path / "zh_CN.GBK"],
        capture_output=True, check=False,
    )  # fmt: skip
    if not (tmp_path / "zh_CN.GBK").is_dir():
        pytest.skip(f"no such locale can be made here: {made}")
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["camera", "--moves", "CW", "--out", "镜头.txt"]
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "easyanimate.py", *(word.encode("gbk") for word in words)],
        cwd=folder, env=environment(LC_ALL="zh_CN.GBK", LOCPATH=str(tmp_path)),
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("gbk") == "镜头.txt\n"
    assert [os.fsencode(path.name) for path in folder.iterdir()] == ["镜头.txt".encode("gbk")]


@pytest.mark.slow
def test_what_a_library_prints_in_a_process_of_the_pool(tmp_path):
    (tmp_path / "jobs.py").write_text(
        "from easyanimate_core.training.preparation.pool import each\n"
        "def job(number):\n"
        "    print('\\u732b')\n"
        "    return number\n"
        "if __name__ == '__main__':\n"
        "    print(sorted(each(job, [1, 2], workers=2, stage='measure')))\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "jobs.py"],
        env=environment(PYTHONIOENCODING="cp1252", PYTHONPATH=str(ROOT)),
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.split(b"\n")) == [b"", b"[1, 2]", rb"\u732b", rb"\u732b"]


def test_names_that_are_no_text(tmp_path):
    if sys.platform == "win32":
        pytest.skip("names are text on Windows")
    folder = tmp_path / os.fsdecode(b"\xff\x1b[2J")
    folder.mkdir()
    done = command("describe", folder)
    assert done.returncode == 2
    assert rb"\udcff\x1b[2J" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names are text on this system")
@pytest.mark.parametrize(
    "words",
    [
        ["generate", "--model", "tiny", "--prompt", "a", "--start-image", "{name}.png",
         "--output", "a.mp4", *map(str, QUICK)],
        ["evaluate", "{name}.mp4", "--out", "report"],
        ["evaluate", ".", "--out", "report"],
        ["prepare-data", "scenes", ".", "out", "--workers", "1"],
        ["prepare-data", "filter", ".", "--no-ocr", "--workers", "1"],
    ],
)  # fmt: skip
def test_sources_whose_names_are_no_text(words, checkpoint, tmp_path, monkeypatch, capsys):
    """Of an archive that was packed on a Chinese Windows: no recipe or report could hold them."""
    monkeypatch.chdir(tmp_path)
    make_link(Path("tiny"), checkpoint(V5_1, Head.INPAINT))
    name = os.fsdecode("猫狗".encode("gbk"))
    write_png(Path(f"{name}.png"), pixels()[0])
    write_mp4(Path(f"{name}.mp4"), pixels(frames=5), fps=8)
    before = {path.name for path in tmp_path.iterdir()}
    assert main([word.format(name=name) for word in words]) == 2
    said = capsys.readouterr().err
    assert "The name '" in said
    assert r"è\udcb9\udcb7" in said
    assert "is not valid UTF-8" in said
    assert {path.name for path in tmp_path.iterdir()} - {"out"} == before


# Pipes


@pytest.mark.parametrize("words", [["preprocess", "--list"], ["download", "--list"], ["--help"]])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_goes_away_ends_nothing(words, buffered):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "easyanimate_core", *words],
        cwd=ROOT,
        env=environment(PYTHONUNBUFFERED=buffered),
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_the_work_is_done_for_a_reader_that_went_away(checkpoint, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    output = tmp_path / "a.mp4"
    words = ["generate", "--model", checkpoint(V5_1, Head.T2V), "--prompt", "word " * 400,
             "--output", output, *QUICK]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "easyanimate_core", *map(str, words)],
        cwd=ROOT, env=environment(), stdout=writer, stderr=writer, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4"]


@pytest.mark.parametrize("words", [["download", "--list"], ["generate", "--help"], ["--version"]])
def test_output_that_is_lost_is_told(words):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "easyanimate_core", *words],
            cwd=ROOT, env=environment(), stdout=stream, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: not all of the output could be written: ")
    assert len(done.stderr.splitlines()) == 1


@posix
@pytest.mark.parametrize(
    "closed",
    [
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param(">&- 2>&-", marks=pytest.mark.slow),
        "<&- >&- 2>&-",
    ],
)
def test_the_work_is_done_without_a_console(checkpoint, tmp_path, closed):
    """As under Windows' pythonw.exe."""
    words = ["generate", "--model", checkpoint(V5_1, Head.T2V), "--prompt", "a", *QUICK,
             "--output", tmp_path / "a.mp4"]  # fmt: skip
    command = shlex.join([sys.executable, "-m", "easyanimate_core", *map(str, words)])
    done = subprocess.run(
        f"{command} {closed}", shell=True, cwd=ROOT, env=environment(), check=False
    )
    assert done.returncode == 0
    assert read_video(tmp_path / "a.mp4").frames.shape[0] == FRAMES


@posix
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """What a library of C writes to standard error would go into it."""
    script = (
        "import os, sys\n"
        "from easyanimate_core.console import prepare_streams\n"
        "prepare_streams()\n"
        "print('lost'); print('lost', file=sys.stderr)\n"
        "with open(sys.argv[1], 'wb') as file:\n"
        "    file.write(b'the result')\n"
        "    os.write(1, b'warning'); os.write(2, b'warning')\n"
    )
    command = shlex.join([sys.executable, "-c", script, str(tmp_path / "a")])
    subprocess.run(f"{command} <&- >&- 2>&-", shell=True, cwd=ROOT, check=True)
    assert (tmp_path / "a").read_bytes() == b"the result"


@posix
@pytest.mark.slow
def test_the_work_is_done_for_a_terminal_that_was_closed(checkpoint, tmp_path):
    """Where its end does not end the command: after nohup, disown or in another session."""
    words = ["generate", "--model", checkpoint(V5_1, Head.T2V), "--prompt", "a", *QUICK,
             "--output", tmp_path / "a.mp4"]  # fmt: skip
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "easyanimate_core", *map(str, words)],
        cwd=ROOT, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert process.wait(timeout=120) == 0
    assert read_video(tmp_path / "a.mp4").frames.shape[0] == FRAMES


# Signals


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_as_ctrl_c_does(checkpoint, tmp_path, monkeypatch, capsys, name, status):
    from easyanimate_core.cli.bars import ProgressBars

    # Whoever runs the tests may have switched one off, as nohup does.
    number = getattr(signal, name)
    usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    before = signal.signal(number, usual)
    shown = ProgressBars.__call__

    def interrupt(self, stage, done, total):
        shown(self, stage, done, total)
        if stage == "denoise":
            signal.raise_signal(number)

    monkeypatch.setattr(ProgressBars, "__call__", interrupt)
    words = ["generate", "--model", checkpoint(V5_1, Head.T2V), "--prompt", "a", *QUICK,
             "--output", tmp_path / "a.mp4"]  # fmt: skip
    try:
        assert main([str(word) for word in words]) == status
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err.endswith("\nStopped. No partial file was left.\n")
    assert not list(tmp_path.iterdir())


@posix
@pytest.mark.parametrize("after", [0.15, 0.4, 0.8])
def test_ctrl_c_in_the_first_second_is_quiet(checkpoint, after):
    process = subprocess.Popen(
        [sys.executable, "-m", "easyanimate_core", "describe", str(checkpoint(V5_1, Head.T2V))],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Background jobs of a shell, and so their children, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    begun = "frozen site" not in said  # Python itself is not ours
    assert not begun or process.returncode in (0, 130, -signal.SIGINT)
    assert not begun or said in ("", "\nStopped. No partial file was left.\n")


@posix
def test_ctrl_c_while_pytorch_is_imported_ends_at_once(checkpoint):
    folder = checkpoint(V5_1, Head.T2V)
    script = f"""
import signal, sys
from easyanimate_core.cli.main import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._C":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
assert "torch" not in sys.modules
sys.meta_path.insert(0, Interrupting())
main(["describe", {str(folder)!r}])
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.slow
@posix
def test_workers_end_with_their_parent(tmp_path):
    """Two processes that write clips of long videos."""
    import torch

    from easyanimate_core.media import write_mp4

    frames = torch.rand(240, 96, 96, 3, generator=torch.Generator().manual_seed(0))
    (tmp_path / "videos").mkdir()
    for name in ("one", "two"):
        write_mp4(tmp_path / "videos" / f"{name}.mp4", frames, fps=8)
    words = ["prepare-data", "scenes", tmp_path / "videos", tmp_path / "data", "--workers", 2]
    process = subprocess.Popen(
        [sys.executable, "-m", "easyanimate_core", *map(str, words)],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # folders come and go meanwhile
            if list(tmp_path.rglob("*.part")):
                break
        time.sleep(0.005)
    process.terminate()
    _, said = process.communicate(timeout=60)
    if process.returncode:
        assert process.returncode == 143, said
        assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.part"))
