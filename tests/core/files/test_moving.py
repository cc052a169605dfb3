"""Under Windows' rules of sharing: what is finished is never lost, and what is held is told."""

import gc
import os
import pickle
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace as replaced
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.cli.main import main
from easyanimate_core.convert import Conversion, convert
from easyanimate_core.convert.report import write_report
from easyanimate_core.errors import HeldError, MediaError
from easyanimate_core.files import (
    Together,
    atomic_file,
    atomic_folder,
    check_folder,
    moving,
    remove,
    remove_tree,
    rename,
    replace,
    sweep,
)
from easyanimate_core.files.leftovers import temporary_name
from easyanimate_core.media import write_frames, write_json, write_mp4, write_png
from easyanimate_core.media.writer import open_mp4
from easyanimate_core.models.specs import Head
from easyanimate_core.output import save_videos
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.small_model import is_installed, lies_in_cache, small_checkpoint
from easyanimate_core.tasks import TextToVideo
from easyanimate_core.text import EmbeddingCache, PromptEmbeddings, TextStates, write_embeddings
from easyanimate_core.text.prompts import EncodedPrompt
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.training.data.cache import LatentCache
from easyanimate_core.training.preparation.journal import Journal
from easyanimate_core.weights.files import inspect_checkpoint
from tests.emulation import imitated
from tests.emulation.scanner import first_calls_fail, held_for, opened_alone
from tests.emulation.windows import emulated
from tests.factories import V5_1, pixels, quick

pytestmark = imitated

#: Opens the files that it is given, says so, and holds them until it is told to end.
PLAYER = (
    "import sys\nfiles = [open(name, 'rb') for name in sys.argv[1:]]\nprint(1, flush=True)\ninput()"
)
PROMPT = "A dog shakes its head."


@pytest.fixture(autouse=True)
def windows():
    with emulated():
        yield


@pytest.fixture
def hasty(monkeypatch):
    """Three seconds are long for what is held for good."""
    monkeypatch.setattr(moving, "_WAITS", (0.01,))


@pytest.fixture
def player(tmp_path):
    """`player(path, ...)`: another process has the files open until the test ends."""
    running = []

    def opens(*paths):
        words = [sys.executable, "-c", PLAYER, *map(str, paths)]
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path.parent
        )
        process.stdout.readline()
        running.append(process)
        return process

    yield opens
    for process in running:
        process.communicate(b"\n", timeout=20)


def written(path, text="old"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# What the imitation refuses


def test_what_is_open_here_or_elsewhere_is_held(tmp_path, player):
    mine, theirs, free = (written(tmp_path / name) for name in ("mine", "theirs", "free"))
    os.link(theirs, tmp_path / "other name")
    player(theirs)
    with mine.open():
        for held in (mine, theirs, tmp_path / "other name"):
            for call in (held.unlink, lambda held=held: free.replace(held),
                         lambda held=held: held.rename(tmp_path / "new")):  # fmt: skip
                with pytest.raises(PermissionError, match="WinError"):
                    call()
        with pytest.raises(PermissionError):
            tmp_path.rename(tmp_path.with_name("moved"))
    mine.rename(tmp_path / "new")
    with pytest.raises(FileExistsError):
        free.rename(tmp_path / "new")
    free.replace(tmp_path / "new")


def test_what_is_mapped_can_be_renamed_alone(tmp_path):
    save_file({"a": torch.zeros(9)}, tmp_path / "a")
    tensor = load_file(tmp_path / "a")["a"]
    (tmp_path / "a").rename(tmp_path / "b")
    for call in ((tmp_path / "b").unlink, lambda: written(tmp_path / "c").replace(tmp_path / "b")):
        with pytest.raises(PermissionError, match="mapping"):
            call()
    with pytest.raises(OSError, match="1224"):
        (tmp_path / "b").open("w")
    del tensor
    (tmp_path / "b").unlink()


def test_a_folder_that_somebody_stands_in_stays(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    (folder / "b").mkdir(parents=True)
    monkeypatch.chdir(folder / "b")
    for call in ((folder / "b").rmdir, lambda: folder.rename(tmp_path / "c")):
        with pytest.raises(PermissionError):
            call()


def test_what_a_test_starts_is_under_the_same_rules(tmp_path):
    file = written(tmp_path / "a")
    code = "import pathlib, sys\npathlib.Path(sys.argv[1]).unlink()"
    with file.open():
        done = subprocess.run(
            [sys.executable, "-c", code, file], capture_output=True, text=True, check=False
        )
    assert "WinError 32" in done.stderr


# Held for a moment


def test_a_file_that_is_held_for_a_moment_is_replaced(tmp_path):
    target = written(tmp_path / "a.txt")
    with held_for(0.4, target), atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_with_a_file_that_is_held_for_a_moment_is_replaced(tmp_path):
    file = written(tmp_path / "a" / "file")
    with held_for(0.4, file), atomic_folder(tmp_path / "a", replace=True) as folder:
        written(folder / "file", "new")
    assert file.read_text() == "new"
    assert names(tmp_path) == ["a", "a/file"]


@pytest.mark.slow
def test_three_seconds_and_no_more(tmp_path, player):
    file = written(tmp_path / "a")
    player(file)
    begin = time.monotonic()
    with pytest.raises(PermissionError):
        remove(file)
    assert 2.5 < time.monotonic() - begin < 6


def test_where_nothing_may_be_written_nothing_is_waited_for(tmp_path, monkeypatch):
    """A folder that is not ours stays so. Root may write everywhere, so it is said here."""
    file = written(tmp_path / "a")
    monkeypatch.setattr(os, "access", lambda *_: False)
    begin = time.monotonic()
    with file.open(), pytest.raises(PermissionError):
        remove(file)
    assert time.monotonic() - begin < 1


def test_what_only_a_circle_keeps_is_let_go(tmp_path):
    target = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(9)}, target)
    circle = {"tensor": load_file(target)["a"]}
    circle["self"] = circle
    gc.disable()
    try:
        del circle
        with atomic_file(target) as temporary:
            temporary.write_text("new")
    finally:
        gc.enable()
    assert target.read_text() == "new"


# Every writer, each of whose moves and removals is refused once


def states(seed=0):
    return TextStates(torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(seed)), None)


def tiny_file(folder):
    source = make_tiny(folder / "tiny", version=V5_1, head=Head.T2V)
    target = folder / "a.safetensors"
    convert(source, target, Conversion(dtype="fp8"))
    convert(source, target, Conversion(dtype="fp8", force=True))


def tiny_folder(folder):
    source = make_tiny(folder / "tiny", version=V5_1, head=Head.T2V)
    make_tiny(folder / "tiny", version=V5_1, head=Head.T2V)
    for force in (False, True):
        fidelity = convert(source, folder / "a", Conversion(dtype="fp8", force=force))
    write_report(fidelity, folder / "a.md")


def cut_journal(folder):
    written(folder / "a.jsonl", '{"half')
    Journal(folder / "a.jsonl", EncodedPrompt)


def cached(folder):
    cache = EmbeddingCache(folder, "encoder", max_bytes=2000)
    for prompt in ("a", "b", "c"):
        cache.write(prompt, EncodedPrompt(states(), ("",)))


WRITERS = {
    "video": lambda f: [write_mp4(f / "a.mp4", pixels(s, frames=5)) for s in (1, 2)],
    "picture": lambda f: [write_png(f / "a.png", pixels(s)) for s in (1, 2)],
    "frames": lambda f: write_frames(f / "a", pixels(1, frames=3)),
    "json": lambda f: [write_json(f / "a.json", value) for value in (1, 2)],
    "embeddings": lambda f: [
        write_embeddings(f / "a.safetensors", PromptEmbeddings(states(s), states(), ("a",), "b"))
        for s in (1, 2)
    ],
    "kept embeddings": cached,
    "latents": lambda f: LatentCache(f, "vae").write(torch.zeros(1), "clip"),
    "converted file": tiny_file,
    "converted folder": tiny_folder,
    "journal": cut_journal,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_first_refusal_changes_nothing(tmp_path, name):
    results = []
    for folder in (tmp_path / "calm", tmp_path / "scanned"):
        folder.mkdir()
        if folder.name == "calm":
            WRITERS[name](folder)
        else:
            with first_calls_fail() as refused:
                WRITERS[name](folder)
            assert refused
        results.append(names(folder))
    assert results[0] == results[1]


@pytest.mark.skipif(not is_installed(), reason="the small model's weights are not there")
@pytest.mark.parametrize("kind", ["windows", "exfat"])
def test_the_small_model_is_found_at_first_use(kind, caplog, monkeypatch):
    if kind == "exfat":
        monkeypatch.setattr(os, "link", no_link)
    with first_calls_fail() as refused:
        folder = small_checkpoint(Head.INPAINT)
    assert refused
    assert lies_in_cache(folder)
    assert not caplog.text
    assert inspect_checkpoint(folder).head is Head.INPAINT


def no_link(*_, **__):
    raise OSError(22, "[WinError 1] Incorrect function")


# Interrupted


def interrupted(path):
    """As Pillow, which closes its file after errors alone."""
    file = path.open("w")
    file.write("half")
    raise KeyboardInterrupt


def test_what_is_interrupted_with_its_file_open_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a") as temporary:
        interrupted(temporary)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "b") as folder:
        interrupted(folder / "file")
    assert not names(tmp_path)


# Held for good


@pytest.mark.usefixtures("hasty")
def test_a_finished_file_is_kept_under_a_free_name(tmp_path, player):
    target = written(tmp_path / "a.txt")
    written(tmp_path / "a-2.txt", "another")
    player(target)
    told = r"a\.txt cannot be replaced: .*player or a virus scanner.* complete: it was saved as "
    with pytest.raises(HeldError, match=told) as held, atomic_file(target) as temporary:
        temporary.write_text("new")
    assert held.value.kept == tmp_path / "a-3.txt"
    assert held.value.kept.read_text() == "new"
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a-2.txt", "a-3.txt", "a.txt"]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("held", ["file", "folder"])
def test_a_finished_folder_is_kept_under_a_free_name(tmp_path, player, monkeypatch, held):
    target = tmp_path / "model"
    file = written(target / "weights")
    if held == "file":
        player(file)
    else:
        (target / "part").mkdir()
        monkeypatch.chdir(target / "part")
    told = r"The new folder is complete: it was saved as .*model-2"
    with pytest.raises(HeldError, match=told), atomic_folder(target, replace=True) as folder:
        written(folder / "weights", "new")
    monkeypatch.undo()
    assert file.read_text() == "old"
    assert (tmp_path / "model-2" / "weights").read_text() == "new"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("hasty")
def test_a_new_file_that_a_scanner_holds_is_copied(tmp_path):
    with pytest.raises(HeldError) as held:  # noqa: SIM117
        with atomic_folder(tmp_path / "model") as folder:
            scanned = written(folder / "part" / "weights", "new").open()
            written(folder / "config", "new")
    assert sorted(names(held.value.kept)) == ["config", "part", "part/weights"]
    assert (held.value.kept / "part" / "weights").read_text() == "new"
    scanned.close()
    with pytest.raises(HeldError) as held, atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("new")
        scanned = temporary.open()
    scanned.close()
    assert held.value.kept.read_text() == "new"


@pytest.mark.usefixtures("hasty")
def test_what_can_be_made_again_is_not_kept_twice(tmp_path, player):
    target = written(tmp_path / "a")
    player(target)
    with (
        pytest.raises(MediaError, match="cannot be written"),
        atomic_file(target, spare=False) as temporary,
    ):
        temporary.write_text("new")
    assert names(tmp_path) == ["a"]


@pytest.fixture(scope="module")
def result(pipeline):
    with torch.inference_mode():
        return pipeline(V5_1, Head.T2V).generate(PROMPT, TextToVideo(), quick(batch=2))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("which", ["v_0.mp4", "v_1.mp4", "v.json"])
def test_of_several_results_the_others_are_written(tmp_path, player, result, which):
    result.save(tmp_path / "v.mp4")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    player(tmp_path / which)
    changed = result.frames.flip(1)
    with pytest.raises(HeldError, match="was saved as"):
        save_videos(tmp_path / "v.mp4", changed, fps=4, recipe=result.recipe)
    stem, dot, ending = which.partition(".")
    assert names(tmp_path) == sorted([*before, f"{stem}-2{dot}{ending}"])
    assert (tmp_path / which).read_bytes() == before[which]
    for name in before.keys() - {which, "v.json"}:
        assert (tmp_path / name).read_bytes() != before[name]


@pytest.mark.usefixtures("hasty")
def test_the_rest_of_a_report_is_written(tmp_path, player):
    player(written(tmp_path / "a.json"), written(tmp_path / "c.json"))
    with pytest.raises(HeldError) as held, Together() as together:
        files = [together.write(write_json, tmp_path / f"{name}.json", 1) for name in "abc"]
    assert [file.name for file in files] == ["a-2.json", "b.json", "c-2.json"]
    assert all(f"was saved as {tmp_path / name}-2.json" in str(held.value) for name in "ac")
    again = pickle.loads(pickle.dumps(held.value))  # as a worker's
    assert (str(again), again.kept) == (str(held.value), files[0])
    with pytest.raises(ValueError, match="else"), Together() as together:
        together.write(write_json, tmp_path / "a.json", 1)
        raise ValueError("something else")


# Asked before the work


def worked(*_):
    raise AssertionError("the work has begun")


@pytest.mark.usefixtures("hasty")
def test_a_forced_target_is_asked_for_before_the_work(tmp_path, player, checkpoint, capsys):
    source = checkpoint(V5_1, Head.T2V)
    folder, file, video = tmp_path / "a", tmp_path / "a.safetensors", tmp_path / "v.mp4"
    for target in (folder, file):
        convert(source, target, Conversion(dtype="fp8"))
    write_mp4(video, pixels(1, frames=5))
    before = names(tmp_path)
    player(folder / "model_index.json", file, video)
    told = "cannot be replaced: .*Another program has it, or something in it, open: close that"
    for target in (folder, file):
        with pytest.raises(MediaError, match=told):
            convert(source, target, Conversion(dtype="fp8", force=True), progress=worked)
    words = ["generate", "--model", str(source), "--prompt", PROMPT, "--output", str(video)]
    assert main([*words, "--force"]) == 2
    assert "v.mp4 cannot be replaced" in capsys.readouterr().err
    assert names(tmp_path) == before


@pytest.mark.usefixtures("hasty")
def test_a_player_that_opens_the_older_video_meanwhile(
    tmp_path, checkpoint, player, capsys, monkeypatch
):
    """The status is that of a fault, because the file that was named is the older one."""
    video = write_mp4(tmp_path / "v.mp4", pixels(1, frames=5))
    older = video.read_bytes()
    generate = Pipeline.generate

    def looked_at(*arguments, **options):
        player(video)
        return generate(*arguments, **options)

    monkeypatch.setattr(Pipeline, "generate", looked_at)
    words = ["generate", "--model", str(checkpoint(V5_1, Head.T2V)), "--prompt", PROMPT * 99]
    words += ["--output", str(video), "--force", "--size", "64x96", "--frames", "5", "--steps", "1"]
    assert main(words) == 2
    said = capsys.readouterr()
    kept = tmp_path / "v-2.mp4"
    assert f"The new file is complete: it was saved as {kept}" in said.err
    assert "note: " in said.out  # of the prompt's words that were cut off
    assert video.read_bytes() == older
    assert names(tmp_path) == ["v-2.mp4", "v.json", "v.mp4"]


# Removing


def test_what_is_read_only_is_removed_and_replaced(tmp_path):
    for name in ("git/objects/a", "git/b", "c", "d"):
        written(tmp_path / name).chmod(0o444)
    remove_tree(tmp_path / "git")
    remove(tmp_path / "c")
    replace(written(tmp_path / "new", "new"), tmp_path / "d")
    assert names(tmp_path) == ["d"]
    assert (tmp_path / "d").read_text() == "new"


@pytest.mark.usefixtures("hasty")
def test_what_stays_stays_read_only(tmp_path, player):
    file = written(tmp_path / "a")
    file.chmod(0o444)
    player(file)
    with pytest.raises(PermissionError):
        remove(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


@pytest.mark.usefixtures("hasty")
def test_of_a_folder_all_that_can_be_is_removed(tmp_path, player):
    for name in ("a/1", "a/2", "a/b/3", "a/b/4"):
        written(tmp_path / name)
    player(tmp_path / "a" / "b" / "3")
    with pytest.raises(PermissionError, match="a/b/3"):
        remove_tree(tmp_path / "a")
    assert names(tmp_path) == ["a", "a/b", "a/b/3"]
    remove_tree(tmp_path / "missing")
    remove(tmp_path / "missing")


@pytest.mark.usefixtures("hasty")
def test_leftovers_that_are_held_are_left_without_a_wait(tmp_path, player, monkeypatch):
    monkeypatch.setattr(moving, "_WAITS", (60,))
    ours = temporary_name("a.mp4").split("-")
    dead = written(tmp_path / "-".join([ours[0], "4194305", *ours[2:]]))
    player(dead)
    sweep(tmp_path)
    assert dead.exists()


@pytest.mark.usefixtures("hasty")
def test_an_entry_in_use_is_kept_and_another_makes_room(tmp_path):
    cache = EmbeddingCache(tmp_path, "encoder")
    cache.write("first", EncodedPrompt(states(), ("",)))
    (first,) = tmp_path.iterdir()
    cache = replaced(cache, max_bytes=first.stat().st_size * 5 // 2)
    in_use = load_file(first)
    for prompt in ("second", "third"):
        time.sleep(0.02)
        cache.write(prompt, EncodedPrompt(states(), ("",)))
    assert first.exists()
    assert len(list(tmp_path.iterdir())) < 3
    assert cache.read("third") is not None
    del in_use


def test_a_file_that_another_program_has_for_itself_is_waited_for(tmp_path):
    target = written(tmp_path / "a")
    with opened_alone(target), pytest.raises(PermissionError):
        target.open()
    with atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_name_that_is_taken_is_no_free_one(tmp_path):
    with pytest.raises(FileExistsError):
        rename(written(tmp_path / "a"), written(tmp_path / "b"))


def test_a_path_that_windows_does_not_take_is_told(tmp_path, monkeypatch):
    """There it is an error of a folder that does not exist."""
    target = tmp_path / ("a" * 100) / ("b" * 100)
    with pytest.raises(MediaError) as fault, atomic_file(target) as temporary:
        shutil.rmtree(target.parent)
        monkeypatch.setattr(sys, "platform", "win32")
        Path(temporary).write_text("x")
    monkeypatch.undo()
    assert "characters, and Windows allows 259" in str(fault.value)


@pytest.mark.usefixtures("hasty")
def test_a_video_that_is_written_frame_by_frame_is_kept_too(tmp_path, player):
    target = write_mp4(tmp_path / "a.mp4", pixels(1, frames=5))
    player(target)
    frame = torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()
    with pytest.raises(HeldError), open_mp4(target, height=32, width=32, fps=8) as add:
        add(frame)
    assert (tmp_path / "a-2.mp4").is_file()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", [".", "../here", ".."])
def test_the_current_folder_is_kept_beside(tmp_path, monkeypatch, name):
    """Nothing takes its place: a terminal stands in it."""
    here = tmp_path / "here"
    (here / "below").mkdir(parents=True)
    monkeypatch.chdir(here / "below" if name == ".." else here)
    with pytest.raises(MediaError, match="cannot be replaced"):
        check_folder(Path(name), "checkpoint", lambda _: True, force=True)
    with pytest.raises(HeldError) as held, atomic_folder(name, replace=True) as folder:
        written(folder / "weights")
    assert held.value.kept.resolve() == tmp_path / "here-2"
    assert names(tmp_path / "here-2") == ["weights"]
