"""What may be written where and over what: asked before the work, answered by trying."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from easyanimate_core.cli.bars import ProgressBars
from easyanimate_core.cli.main import main
from easyanimate_core.errors import EasyAnimateError, InputError, MediaError
from easyanimate_core.files import Result, atomic_file, atomic_folder, check_results, save_tensors
from easyanimate_core.files.kinds import is_mp4, is_png, json_with
from easyanimate_core.files.leftovers import sweep, temporary_name
from easyanimate_core.files.writing import check_folder
from easyanimate_core.media import read_video, write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from tests.factories import V5_1, make_link, pixels, quick

ROOT = Path(__file__).parents[3]
TRACKS = '[[{"x": 10, "y": 10}, {"x": 80, "y": 40}]]'


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def video(path):
    return Result(path, "MP4 video", is_mp4)


def run(*words):
    return main([str(word) for word in words])


# One check


@pytest.mark.parametrize("link", ["itself", "symlink", "hard link", "through a folder", "dots"])
def test_a_source_is_never_written_over(tmp_path, link):
    source = write_mp4(tmp_path / "clip.mp4", pixels(1, frames=2))
    target = tmp_path / "out.mp4"
    if link == "itself":
        target = source
    elif link == "symlink":
        make_link(target, source)
    elif link == "hard link":
        target.hardlink_to(source)
    elif link == "through a folder":
        make_link(tmp_path / "folder", tmp_path)
        target = tmp_path / "folder" / "clip.mp4"
    else:
        (tmp_path / "a").mkdir()
        target = tmp_path / "a" / ".." / "clip.mp4"
    with pytest.raises(InputError, match="would overwrite its own source"):
        check_results([video(target)], sources=[source], force=True)


def test_an_older_result_needs_force_and_another_kind_cannot_be_forced(tmp_path):
    older = write_mp4(tmp_path / "older.mp4", pixels(1, frames=2))
    check_results([video(older)], force=True)
    with pytest.raises(InputError, match=r"older\.mp4 already exists.*--force"):
        check_results([video(older)])
    foreign = tmp_path / "photo.mp4"
    foreign.write_bytes(write_png(tmp_path / "photo.png", pixels(1)[0]).read_bytes())
    for force in (False, True):
        with pytest.raises(
            InputError, match=r"photo\.mp4 already exists and is not a valid MP4 video"
        ):
            check_results([video(foreign)], force=force)
    (tmp_path / "empty.mp4").touch()  # as mktemp makes it
    check_results([video(tmp_path / "empty.mp4")])
    check_results([video(tmp_path / "new" / "deep" / "a.mp4")])
    assert not (tmp_path / "new").exists()


def test_two_results_are_two_files(tmp_path):
    with pytest.raises(InputError, match="Two results would be written to"):
        check_results([video(tmp_path / "a.mp4"), Result(tmp_path / "a.mp4", "page", is_png)])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("file/a.mp4", "is not a folder"),
        ("folder.mp4", r"^/.*folder\.mp4 is a folder; name a file\.$"),
        ("n" * 300 + ".mp4", "cannot be written: File name too long"),
        ("deep/" + "n" * 300 + "/a.mp4", "cannot be written: File name too long"),
        ("nul\0.mp4", "is not a valid file name"),
        ("pipe.mp4", r"^/.*pipe\.mp4 is not a regular file, so it is not overwritten\.$"),
    ],
)
def test_where_nothing_can_be_written(tmp_path, target, message):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    before = names(tmp_path)
    with pytest.raises(EasyAnimateError, match=message):
        check_results([video(tmp_path / target)], force=True)
    assert names(tmp_path) == before


def test_long_names_that_the_disk_takes_are_taken(tmp_path):
    name = "猫" * 80 + ".mp4"  # 244 bytes
    check_results([video(tmp_path / name)])
    assert write_mp4(tmp_path / name, pixels(1, frames=2)).is_file()
    assert names(tmp_path) == [name]


def test_a_folder_is_replaced_only_as_a_whole_of_its_kind(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    check_folder(mine, "checkpoint", lambda _: False)
    (mine / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="is not empty and is not a valid checkpoint"):
        check_folder(mine, "checkpoint", lambda _: False, force=True)
    with pytest.raises(InputError, match=r"already exists.*--force"):
        check_folder(mine, "checkpoint", lambda _: True)
    check_folder(mine, "checkpoint", lambda _: True, force=True)


# Every command asks before its work


@pytest.fixture
def no_work(monkeypatch):
    def refuse(*call):
        raise AssertionError(f"the work began: {call}")

    monkeypatch.setattr(ProgressBars, "__call__", refuse)


def commands(tiny, clip, folder):
    """Each command with a result, and all the files that it writes beside it."""
    return {
        "generate": (["--model", tiny, "--prompt", "a", "--output", folder / "a.mp4"],
                     ["a.mp4", "a.json"]),
        "encode": (["--model", tiny, "--prompt", "a", "--out", folder / "a.safetensors"],
                   ["a.safetensors"]),
        "preprocess": (["--kind", "canny", clip, folder / "a.MP4"], ["a.MP4"]),
        "camera": (["--moves", "CW", "--out", folder / "a.txt", "--preview", folder / "p.png"],
                   ["a.txt", "p.png"]),
        "trajectory": ([TRACKS, folder / "a.mp4", "--preview", folder / "p.png"],
                       ["a.mp4", "p.png"]),
        "convert": ([tiny, folder / "a.safetensors", "--report", folder / "r.md"],
                    ["a.safetensors", "r.md", "r.png"]),
        "evaluate": ([clip, "--out", folder], ["report.json", "report.html", "histograms.png"]),
        "evaluate-meaning": (["--rendered", "clean", "--count", 1, "--tasks", "text", "--out",
                              folder], ["report.json", "sheet_text.png", "confusion_text.png"]),
        "demo": (["--out", folder], ["contact_sheet.png", "v5.1_text_to_video.mp4"]),
    }  # fmt: skip


COMMANDS = list(commands(Path("t"), Path("c"), Path("f")))


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("no_work")
def test_no_command_replaces_a_foreign_file(checkpoint, files, tmp_path, capsys, name):
    words, written = commands(checkpoint(V5_1, Head.INPAINT), files / "clip.mp4", tmp_path)[name]
    for file in written:
        (tmp_path / file).write_bytes(b"a user's notes\0 of a month")
        assert run(name, *words, "--force") == 2
        said = capsys.readouterr().err
        assert f"{file} already exists and is not a valid " in said
        assert (tmp_path / file).read_bytes() == b"a user's notes\0 of a month"
        (tmp_path / file).unlink()
    assert not names(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("no_work")
def test_every_command_tries_to_write_first(checkpoint, files, tmp_path, capsys, name):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "below"
    words, _ = commands(checkpoint(V5_1, Head.INPAINT), files / "clip.mp4", folder)[name]
    assert run(name, *words) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.usefixtures("no_work")
def test_sources_of_other_commands(checkpoint, files, tmp_path, capsys):
    tracks = tmp_path / "t.mp4"
    tracks.write_text(TRACKS)
    poses = tmp_path / "poses.txt"
    poses.write_bytes((files / "poses.txt").read_bytes())
    model = checkpoint(V5_1, Head.INPAINT)
    weights = next((model / "transformer").glob("*.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "lora.safetensors")
    for words in (
        ["preprocess", "--kind", "canny", files / "clip.mp4", files / "clip.mp4"],
        ["camera", "--poses", poses, "--moves", "CW", "--out", poses],
        ["trajectory", tracks, tracks],
        ["merge-lora", model, weights, "--lora", tmp_path / "lora.safetensors"],
        ["convert", weights, weights],
    ):
        assert run(*words, "--force") == 2
        said = capsys.readouterr().err
        assert "would overwrite its own source" in said or "overlap" in said


def test_force_replaces_an_older_result(tmp_path, capsys):
    words = ["trajectory", TRACKS, tmp_path / "a.mp4", "--size", "64x96", "--frames", "5"]
    assert run(*words) == 0
    first = (tmp_path / "a.mp4").read_bytes()
    assert run(*words, "--fps", 4) == 2
    assert "replace it with --force" in capsys.readouterr().err
    assert (tmp_path / "a.mp4").read_bytes() == first
    assert run(*words, "--fps", 4, "--force") == 0
    assert read_video(tmp_path / "a.mp4").fps == 4


def test_a_script_does_not_replace_a_foreign_sidecar(pipeline, tmp_path):
    (tmp_path / "dog.json").write_text('{"notes": "of a month"}')
    result = pipeline(V5_1, Head.T2V).generate("a", settings=quick(steps=1))
    with pytest.raises(InputError, match=r"dog\.json already exists and is not a valid recipe"):
        result.save(tmp_path / "dog.mp4")
    assert names(tmp_path) == ["dog.json"]
    again = result.save(tmp_path / "other.MP4")
    assert result.save(tmp_path / "other.MP4") == again  # an older result of its own
    assert names(tmp_path) == ["dog.json", "other.MP4", "other.json"]


def test_a_home_folder_is_known_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "tracks.json").write_text(TRACKS)
    words = ["trajectory", "~/tracks.json", "~/out/a.mp4", "--preview", "~/p.png"]
    assert run(*words, "--size", "64x96", "--frames", "5") == 0
    assert names(tmp_path) == ["a.mp4", "out", "p.png", "tracks.json"]
    assert run("camera", "--moves", "CW", "--out", "~nobody-of-this-name.txt", "--frames", 3) == 0
    Path("~nobody-of-this-name.txt").unlink()


# Failures keep their reason


def test_the_first_error_is_told(tmp_path, monkeypatch):
    def no_unlink(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with pytest.raises(MediaError, match="does not fit: No space left"):  # noqa: SIM117
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            monkeypatch.setattr(Path, "unlink", no_unlink)
            raise OSError(errno.ENOSPC, "No space left on device")


def test_finished_work_is_kept_where_the_target_is_held(tmp_path, monkeypatch):
    """As on Windows while a player has the older video open."""
    target = tmp_path / "a.txt"
    target.write_text("older")
    replace = Path.replace

    def held(path, other):
        if Path(other) == target:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return replace(path, other)

    monkeypatch.setattr(Path, "replace", held)
    monkeypatch.setattr("time.sleep", lambda _: None)
    told = r"a\.txt cannot be replaced.*complete: it was saved as .*a-2\.txt"
    with pytest.raises(MediaError, match=told), atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "older"
    assert (tmp_path / "a-2.txt").read_text() == "new"


LIMITED = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from easyanimate_core.files import atomic_file, save_tensors
import torch
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
with atomic_file({path!r}) as temporary:
    save_tensors(temporary, {{"a": torch.zeros(100_000)}})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_disk_that_fills_up_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.ones(3)})
    before = path.read_bytes()
    code = LIMITED.format(root=str(ROOT), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"MediaError: {path} does not fit: File too large" in done.stderr
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.safetensors"]


# Leftovers


def ended_process():
    """The number of a process that is gone, as `temporary_name` writes it."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    code += "from easyanimate_core.files.leftovers import temporary_name\n"
    code += "print(temporary_name(sys.argv[1]))"

    def name(target):
        words = [sys.executable, "-c", code, target]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    return name


def test_leftovers_of_dead_processes_go_and_others_stay(tmp_path):
    dead = ended_process()
    alive, theirs = tmp_path / temporary_name("b.mp4"), tmp_path / ".mine.part"
    gone, folder = tmp_path / dead("a.mp4"), tmp_path / dead("c")
    for file in (alive, theirs, gone):
        file.write_text("x")
    folder.mkdir()
    (folder / "half").write_text("x")
    with atomic_file(tmp_path / "new.txt") as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == sorted([alive.name, theirs.name, "new.txt"])


def test_what_was_put_aside_and_not_replaced_comes_back(tmp_path):
    old = tmp_path / ended_process()("model").replace(".part", ".old")
    old.mkdir()
    (old / "weights").write_text("x")
    sweep(tmp_path)
    assert names(tmp_path) == ["model", "weights"]


def test_another_machine_has_a_day(tmp_path):
    name = temporary_name("a.mp4").split(".")
    name[3] = "00000000" + name[3][8:]
    file = tmp_path / ".".join(name)
    file.write_text("x")
    sweep(tmp_path)
    assert file.exists()
    os.utime(file, (1, 1))
    sweep(tmp_path)
    assert not file.exists()


def test_a_folder_takes_the_place_of_another(tmp_path):
    target = tmp_path / "a"
    for text in ("first", "second"):
        with atomic_folder(target, replace=True) as folder:
            (folder / "file").write_text(text)
    with pytest.raises(KeyboardInterrupt), atomic_folder(target, replace=True):
        raise KeyboardInterrupt
    assert (target / "file").read_text() == "second"
    assert names(tmp_path) == ["a", "file"]


def test_kinds_of_json(tmp_path):
    file = tmp_path / "a.json"
    is_one = json_with("a", "b")
    for value, expected in (({"a": 1, "b": 2}, True), ({"a": 1}, False), ([1], False)):
        file.write_text(json.dumps(value))
        assert is_one(file) is expected
    file.write_bytes(b"\xff{")
    assert not is_one(file)


def test_an_embedding_cache_that_cannot_be_written_costs_a_note(checkpoint, tmp_path):
    (tmp_path / "file").touch()
    model = Pipeline.load(checkpoint(V5_1, Head.T2V), embedding_cache=tmp_path / "file")
    result = model.generate("A dog.", settings=quick(steps=1))
    assert any("was not cached" in note for note in result.notes)
