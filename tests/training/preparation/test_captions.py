"""Captions by a real vision-language model of random weights, and from files."""

import csv
import io
import json
import os
import shutil
import threading

import pytest

from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.media import read_video, resize_cover, write_mp4, write_png
from easyanimate_core.training.preparation import (
    Captioning,
    Limit,
    caption_files,
    captions,
    filter_files,
    read_captions,
)
from easyanimate_core.training.preparation.caption_model import CaptionModel
from easyanimate_core.training.preparation.chats import render_chats
from easyanimate_core.training.preparation.files import find_files
from easyanimate_core.training.preparation.pixels import sample_frames
from tests.factories import real_clip
from tests.training.preparation.tiny_vision_models import write_llava

SHORT = Captioning(prompt="What is in {name}?", frames=2, batch=2, max_tokens=6, device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_llava(tmp_path_factory.mktemp("models") / "tiny-llava")


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    for name in ("bigbuckbunny", "bikes"):
        clip = read_video(real_clip(name), max_frames=9)
        write_mp4(folder / f"{name}.mp4", resize_cover(clip.frames, 64, 96), fps=clip.fps)
    write_png(folder / "picture.png", clip.frames[0])
    return folder


def texts(folder):
    return captions.captions_of(folder, find_files(folder))


def by_path(folder):
    return {data.path: data for data in find_files(folder)}


def test_a_model_describes_every_file(dataset, model):
    summary = caption_files(dataset, model, SHORT)
    assert (summary.added, summary.without) == (3, 3 - len(texts(dataset)))
    found = texts(dataset)
    assert len(found) >= 2
    assert len(set(found.values())) == len(found), "each answer is about its own picture"
    # A batch of two says what each alone says: the padding is not seen.
    captioner = CaptionModel(model, SHORT)
    for data in find_files(dataset):
        (alone,) = captioner([(data, sample_frames(data, 2))])
        assert found.get(data.path, "") == alone


def test_a_second_start_captions_the_rest(dataset, model):
    given = dataset.parent / "texts.json"
    given.write_text(json.dumps({"bikes.mp4": "Two bikes."}))
    read_captions(dataset, given)

    def stop(stage, done, total):
        if stage == "caption" and 0 < done < total:
            raise KeyboardInterrupt

    one = Captioning(prompt="What?", frames=1, max_tokens=3, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        caption_files(dataset, model, one, progress=stop)
    assert caption_files(dataset, model, one).added == 1
    assert caption_files(dataset, model, one).added == 0
    assert texts(dataset)["bikes.mp4"] == "Two bikes."
    with pytest.raises(
        InputError, match=r"2 files have captions from another model or prompt.*--repl"
    ):
        caption_files(dataset, model, SHORT)
    assert caption_files(dataset, model, SHORT, replace=True).added == 3
    assert texts(dataset).get("bikes.mp4") != "Two bikes."
    assert caption_files(dataset, model, SHORT, replace=True).added == 0


def test_only_what_is_kept_is_captioned(dataset, model):
    decisions = filter_files(dataset, {"side": Limit(100, None)})
    kept = [decision.path for decision in decisions.files if not decision.reasons]
    assert kept == ["picture.png"]
    caption_files(dataset, model, SHORT)
    assert list(texts(dataset)) == kept


@pytest.mark.parametrize("kind", ["list.json", "object.json", "table.csv", "folder"])
def test_captions_from_files(dataset, tmp_path, kind):
    wanted = {"bikes.mp4": 'Two bikes, "fast".', "picture.png": "一只兔子\nin two lines"}
    source = tmp_path / kind
    if kind == "folder":
        source = dataset  # beside the clips themselves
        for path, text in wanted.items():
            (dataset / path).with_suffix(".txt").write_text(f" {text}\n", encoding="utf-8")
    elif kind == "table.csv":
        with source.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, ["type", "file_path", "text"])
            writer.writeheader()
            writer.writerows({"file_path": p, "text": t, "type": "x"} for p, t in wanted.items())
    else:
        rows = [{"file_path": p, "text": t, "type": "x"} for p, t in wanted.items()]
        value = rows if kind == "list.json" else wanted
        source.write_text(json.dumps(value), encoding="utf-8")
    summary = read_captions(dataset, source)
    assert (summary.added, summary.without) == (2, 1)
    assert texts(dataset) == wanted
    assert read_captions(dataset, source).added == 0


def test_a_caption_belongs_to_the_file_as_it_was(dataset, tmp_path):
    source = tmp_path / "texts.json"
    source.write_text(json.dumps({"bikes.mp4": "Two bikes."}))
    read_captions(dataset, source)
    shutil.copy(dataset / "bigbuckbunny.mp4", dataset / "bikes.mp4")
    assert texts(dataset) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            '{"gone.mp4": "x"}',
            r"captions of what is not in .*: gone.mp4. Write paths like big",
        ),
        ("a.json", '{"bikes.mp4": " "}', "an empty text for bikes.mp4"),
        ("a.json", '{"bikes.mp4": 3}', "for 'bikes.mp4' the text 3; it must be text. Write"),
        ("a.json", '{"bikes.mp4": null}', "for 'bikes.mp4' the text None; it must be text"),
        ("a.json", '[{"path": "x"}]', r"Entry 1 .*It has 'path': rename that to file_path"),
        ("a.json", "3", "must contain a list of"),
        (
            "a.json",
            '[{"file_path": "bikes.mp4", "caption": "x"}]',
            r"Entry 1 of .*a.json \(bikes.mp4\) has no text. It has 'caption': rename that to text",
        ),
        (
            "a.json",
            '[{"file_path": "bikes.mp4", "text": ["a", "b"]}]',
            r"Entry 1 .*text = \['a', 'b'\]; it must be text. Join them, or write one entry for",
        ),
        ("a.csv", "file_path,text\nbikes.mp4,nan\n", "'nan', as programs print a missing value"),
        ("a.csv", "file_path,text\nbikes.mp4,\"['a', 'b']\"\n", "a list printed as text"),
        (
            "a.csv",
            "file_path,text\nbikes.mp4,a cat, black\n",
            "Line 2 .*has 3 values for 2 columns.*must be in double quotes",
        ),
        ("a.csv", "file_path,text\nbikes.mp4\n", "Line 2 .*has 1 values for 2 columns"),
        (
            "a.csv",
            "file_path,text\nbikes.mp4,one\n./bikes.mp4,two\n",
            "two texts for bikes.mp4: line 2 has 'one', line 3 'two'",
        ),
        ("a.csv", "bikes.mp4,x\n", "Put the line file_path,text above it"),
        ("a.csv", "file_path;text\nbikes.mp4;x\n", "separated by ';': save it with commas"),
        ("a.csv", "file_name,prompt\nbikes.mp4,x\n", "Rename 'file_name' to file_path. Rename 'p"),
        ("a.tsv", "file_path\ttext\n", "with commas between the columns"),
        ("a.jsonl", "{}\n", "a list with the lines as its entries"),
        ("a.json", "{", "a.json is not valid JSON"),
        ("a.json", "[]", "has no captions for the files"),
        ("a.csv", "file,text\nbikes.mp4,x\n", "lacks the column file_path or text"),
        ("a.docx", "x", r"is not a .json, a .csv or a folder"),
        ("missing/a.json", None, "cannot be read"),
    ],
)
def test_files_are_refused(dataset, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_captions(dataset, tmp_path / name)
    assert not texts(dataset)


def test_models_are_refused(dataset, model, tmp_path):
    with pytest.raises(InputError, match=r"no config.json. Download a vision-language.*--from"):
        caption_files(dataset, tmp_path / "missing")
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        caption_files(dataset, copy)
    shutil.copy(model / "model.safetensors", copy)
    (copy / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="vision-language model that transformers supports"):
        caption_files(dataset, copy)
    for change, message in (
        ({"frames": 0}, "frames is 0"),
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": "{seconds}"}, r"contains {seconds}, but only {name} is allowed"),
        ({"prompt": "{"}, "unmatched brace"),
    ):
        with pytest.raises(InputError, match=message):
            Captioning(**change)


def test_a_program_beside_the_weights_is_not_run(tmp_path, monkeypatch):
    """transformers would ask in the terminal, and run it after a yes."""
    marker, folder = tmp_path / "marker", tmp_path / "model"
    folder.mkdir()
    source = f"open({str(marker)!r}, 'w').close()\nclass Any: pass\n"
    (folder / "program.py").write_text(source)
    auto = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor")
    told = {"model_type": "of_its_own", "auto_map": dict.fromkeys(auto, "program.Any")}
    for name in ("config.json", "processor_config.json", "preprocessor_config.json"):
        (folder / name).write_text(json.dumps(told))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(CheckpointError, match="cannot be used to caption"):
        CaptionModel(folder, SHORT)
    assert not marker.exists()


def test_a_caption_in_another_encoding_is_named_and_left_out(dataset, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "bikes.txt").write_bytes("the man\u2019s bike".encode("cp1252"))
    (folder / "picture.txt").write_bytes(b"\xef\xbb\xbfa picture\r\n")
    summary = read_captions(dataset, folder)
    assert (summary.added, summary.without) == (1, 2)
    assert texts(dataset) == {"picture.png": "a picture"}
    assert (
        "byte 7 is 0x92, which is not valid UTF-8. Save it as UTF-8"
        in summary.unreadable["bikes.mp4"]
    )
    (folder / "picture.txt").unlink()
    with pytest.raises(InputError, match=r"has no captions for .*bikes.txt cannot be read"):
        read_captions(dataset, folder)


def test_a_clip_that_cannot_be_shown_to_the_model_is_named_and_left_out(dataset, model):
    (dataset / "bikes.mp4").write_bytes(b"nothing")
    summary = caption_files(dataset, model, SHORT)
    assert summary.added == 2
    assert list(summary.unreadable) == ["bikes.mp4"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{% set x = namespace(v='a') %}{% for i in range(60) %}{% set x.v = x.v ~ x.v %}"
            "{% endfor %}",
            "it needs too much memory",
        ),
        ("{{ 'a' * 10 ** 11 }}", "it needs too much memory"),
        ("{{ 'a' * 10 ** 7 }}", "it produces 10,000,000 characters"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "cannot be run"),
        ("{{ messages.__class__.__mro__ }}", "cannot be run"),
        ("{% for", "cannot be run"),
        pytest.param(
            "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
            "it does not finish",
            marks=pytest.mark.campaign,
        ),
    ],
)
def test_a_template_that_loops_or_grows_is_ended(model, template, said):
    processor = CaptionModel(model, SHORT)._processor
    processor.chat_template = template
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}]
    with pytest.raises(CheckpointError, match=said):
        render_chats(processor, [chat])


_LOCK = threading.Lock()


class _Locking:
    """Renders a chat once a lock is free, as readers, loggers and allocators do inside."""

    def apply_chat_template(self, chat, **_):
        with _LOCK:
            return chat[0]["content"]


def test_a_lock_that_another_thread_holds_is_not_waited_for():
    with _LOCK:
        assert render_chats(_Locking(), [[{"role": "user", "content": "hello"}]]) == ["hello"]


def test_what_repeats_itself_is_told(dataset, tmp_path):
    source = tmp_path / "a.csv"
    source.write_text("file_path,text\nbikes.mp4,x\nbikes.mp4,x\n")
    assert read_captions(dataset, source).remarks == (
        "Repeated with the same text: line 3 (bikes.mp4).",
    )
    shutil.copy(dataset / "picture.png", dataset / "bikes.png")
    (dataset / "bikes.caption").write_text("Two bikes.")
    summary = read_captions(dataset, dataset)
    assert summary.remarks == ("bikes.caption is the caption of bikes.mp4 and bikes.png.",)
    (dataset / "bikes.txt").write_text("Three bikes.")
    (dataset / "picture.txt").write_text("a picture")
    unreadable = read_captions(dataset, dataset).unreadable
    assert "bikes.txt and bikes.caption, which differ" in unreadable["bikes.mp4"]


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_the_encoding_of_a_table_is_named(dataset, tmp_path, encoding):
    source = tmp_path / "a.csv"
    source.write_bytes("file_path,text\nbikes.mp4,一只狗\n".encode(encoding))
    with pytest.raises(InputError, match=f"(?i){encoding}.*Save it as UTF-8"):
        read_captions(dataset, source)


def test_captions_survive_a_copy_and_a_touch(dataset, tmp_path):
    for file in dataset.glob("b*.mp4"):
        file.with_suffix(".txt").write_text(file.stem)
    read_captions(dataset, dataset)
    filter_files(dataset)
    copy = shutil.copytree(dataset, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in copy.glob("*.*"):
        os.utime(file, (1, 1))
    before = (copy / "preparation" / "measures.jsonl").read_bytes()
    filter_files(copy)
    assert texts(copy) == {name: name[:-4] for name in ("bikes.mp4", "bigbuckbunny.mp4")}
    assert (copy / "preparation" / "measures.jsonl").read_bytes() == before
