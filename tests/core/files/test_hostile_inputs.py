"""Recipes, tracks, camera files, embeddings and datasets of strangers: a result, or a refusal."""

import codecs
import json
import time
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import EasyAnimateError, InputError, MediaError, RecipeError
from easyanimate_core.evaluation.compare import compare_reports
from easyanimate_core.evaluation.videos import find_video_set
from easyanimate_core.media import write_png
from easyanimate_core.memory.options import Memory
from easyanimate_core.models.geometry import LARGEST_SIDE, LONGEST, MOST_VIDEOS
from easyanimate_core.models.specs import Head
from easyanimate_core.paths.camera import (
    camera_path,
    camera_path_from_rows,
    read_camera_file,
    to_cameractrl_text,
)
from easyanimate_core.paths.trajectory import read_tracks, tracks_from_json
from easyanimate_core.recipe import Recipe
from easyanimate_core.recipe_files import files_of
from easyanimate_core.settings import Settings
from easyanimate_core.tasks import Camera
from easyanimate_core.text import read_embeddings, write_embeddings
from easyanimate_core.text.embedding import TextStates
from easyanimate_core.text.embedding_cache import EmbeddingCache
from easyanimate_core.text.embedding_file import PromptEmbeddings
from easyanimate_core.text.prompts import EncodedPrompt
from easyanimate_core.training.config import parse_config, read_config
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.weights.files import inspect_checkpoint
from tests.factories import V5_1, grey, pixels, write_film

POINTS = [{"x": 1, "y": 2}, {"x": 50, "y": 60}]
LONG_NAME = "é" * 200 + ".png"


# Recipes


@pytest.fixture(scope="module")
def recipe(checkpoint):
    """The JSON of a run along a camera path that was given in memory."""
    info = inspect_checkpoint(checkpoint(V5_1, Head.CAMERA))
    task = Camera(poses=camera_path(["Pan Up"], frames=5))
    made = Recipe.of_run(
        info, ["a dog"], task, Settings(), dtype=torch.float32, memory=Memory()
    ).to_json()
    return json.loads(json.dumps(made))


def changed(recipe, place, value):
    copy = json.loads(json.dumps(recipe))
    holder = copy
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    return copy


def test_a_camera_path_in_memory_comes_back_from_its_recipe(recipe, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    assert len(Recipe.read(path).task.poses) == 5


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["settings", "batch"], 10**9),
        (["settings", "batch"], "2"),
        (["settings", "frames"], 4 * 10**9 + 1),
        (["settings", "height"], 16 * 10**9),
        (["settings", "width"], 10**90),
        (["settings", "steps"], 10**9),
        (["settings", "tile"], 8 * 10**9),
        (["settings", "guidance_scale"], "6"),
        (["settings", "negative_prompt"], {"a": 1}),
        (["settings", "scheduler"], ["Flow"]),
        (["settings", "fps"], [8]),
        (["settings", "seed"], True),
        (["settings"], []),
        (["prompts"], ["a"] * 10_000),
        (["prompts"], [["a"]]),
        (["made_with"], [1, 2]),
        (["made_with"], {"torch": 2}),
        (["model"], "x"),
        (["model", "path"], "a\0b"),
        (["model", "path"], LONG_NAME),
        (["mode"], {"a": 1}),
        (["format"], [1] * 1000),
        (["sources"], [1]),
        (["sources", "poses"], {"poses": [5]}),
        (["sources", "poses"], {"poses": {"a": 1}}),
        (["sources", "poses"], {"poses": [["1"] * 19]}),
        (["sources", "poses"], {"poses": [[10**80] * 19]}),
        (["sources", "poses"], {"file": "a\0b", "sha256": "x"}),
        (["sources", "poses"], {"file": LONG_NAME, "sha256": "x"}),
        (["sources", "poses"], {"file": ["a"], "sha256": "x"}),
        (["sources", "poses"], {"json": "[]"}),
        (["sources", "moves"], [{"file": LONG_NAME, "sha256": "x"}]),
        (["sources", "moves"], [[[["Pan Up"]]]]),
        (["embeddings"], 5),
        (["embeddings"], {"file": 5, "sha256": "x"}),
        (["embeddings"], {"file": "", "sha256": "x"}),
        (["loras"], {"a": 1}),
        (["loras"], [5]),
        (["loras"], [{"file": LONG_NAME, "sha256": "x", "strength": 1, "blocks": "",
                      "partial": False}]),
        (["loras"], [{"file": "a", "sha256": 5, "strength": 1, "blocks": "", "partial": False}]),
        (["loras"], [{"file": "a", "sha256": "x", "strength": 1e9, "blocks": "",
                      "partial": False}]),
    ],
)  # fmt: skip
def test_a_recipe_of_any_other_value_is_refused(recipe, tmp_path, place, value):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(changed(recipe, place, value)))
    begun = time.monotonic()
    with pytest.raises((RecipeError, InputError)) as refused:
        Recipe.read(path)
    assert len(str(refused.value)) < 1000
    assert time.monotonic() - begun < 5


def test_a_recipe_that_names_files_without_end_is_refused(recipe, tmp_path):
    many = {str(n): {"file": f"{n}.png", "sha256": "x"} for n in range(50_000)}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(changed(recipe, ["sources"], {"keyframes": many})))
    begun = time.monotonic()
    with pytest.raises(RecipeError, match="the limit for a run"):
        Recipe.read(path)
    with pytest.raises(RecipeError, match="the limit for a run"):
        files_of(json.loads(path.read_text()))
    assert time.monotonic() - begun < 10


def test_the_limits_of_a_run_are_those_of_the_nodes():
    for name, most in (("batch", MOST_VIDEOS), ("frames", LONGEST), ("tile", LARGEST_SIDE)):
        assert getattr(Settings(**{name: most}), name) == most
        with pytest.raises(InputError, match=f"{name}.*{most:,}|{name}.*{most}"):
            Settings(**{name: most * 4 + 1 if name == "frames" else most * 2})
    assert Settings(height=LARGEST_SIDE, width=16).height == LARGEST_SIDE
    with pytest.raises(InputError, match="height = 4112"):
        Settings(height=LARGEST_SIDE + 16, width=16)


# Tracks and camera paths


def test_tracks_with_a_byte_order_mark_are_read_and_utf_16_is_named(tmp_path):
    path = tmp_path / "tracks.json"
    path.write_bytes(codecs.BOM_UTF8 + json.dumps(POINTS).encode())
    assert read_tracks(path) == tracks_from_json(json.dumps(POINTS))
    path.write_text(json.dumps(POINTS), "utf-16")
    with pytest.raises(MediaError, match=r"tracks.json cannot be read: it is UTF-16"):
        read_tracks(path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" + "-" * 100_000 + "1]",
        '[{"x": ' + "9" * 5000 + ', "y": 1}]',
        '[{"x": 1, "y": [' + "[" * 900 + "]" * 900 + "]}]",
        "[{'x': 1, 'y': 2}",
        '[{"x": 1, "y": 2, "x": 3}]',
        "[{'x': __import__('os'), 'y': 1}]",
        '[{"points": 7}]',
        "[null]",
        "[[]]",
        "[]",
    ],
)
def test_tracks_of_any_other_shape_are_refused(text):
    begun = time.monotonic()
    with pytest.raises(InputError):
        tracks_from_json(text)
    assert time.monotonic() - begun < 5


def test_tracks_in_pythons_words_are_read():
    text = "[{'x': 1, 'y': 2, 'visible': True, 't': None}, {'x': 50, 'y': 60, 'visible': False}]"
    assert tracks_from_json(text)[0].visible == (True, False)


@pytest.mark.parametrize("word", ["9" * 5000, "x" * 5000, "nan", "1e999", "\x1b[31m", "1_0x"])
def test_a_camera_file_names_its_line_in_a_short_message(tmp_path, word):
    path = tmp_path / "camera.txt"
    row = " ".join([word, *["0.5"] * 18])
    path.write_text(f"header\n{row}\n")
    with pytest.raises(InputError, match=r"camera.txt: Line 2 of the camera file") as refused:
        read_camera_file(path)
    assert len(str(refused.value)) < 400 and "\x1b" not in str(refused.value)


def test_a_camera_file_keeps_its_lines_whatever_ends_them(tmp_path):
    text = to_cameractrl_text(camera_path(["Pan Up"], frames=3))
    path = tmp_path / "camera.txt"
    for content in (text.replace("\n", "\r\n"), "\ufeff" + text, "x\u2028y" + text):
        path.write_bytes(content.encode())
        assert len(read_camera_file(path)) == 3
    with pytest.raises(InputError, match="no numbers"):
        camera_path_from_rows([None])


# Embeddings


def states(rows, tokens=8, width=32, value=0.5):
    return TextStates(torch.full((rows, tokens, width), value))


def refused_embeddings(tmp_path, positive, negative):
    path = tmp_path / "e.safetensors"
    write_embeddings(path, PromptEmbeddings(positive, negative))
    with pytest.raises(InputError) as refused:
        read_embeddings(path)
    return str(refused.value)


def test_embeddings_of_two_lengths_are_refused(tmp_path):
    said = refused_embeddings(tmp_path, states(1, tokens=1), states(1))
    assert "positive of 1 x 32 and negative of 8 x 32, which must be equal" in said
    assert "Create them again with encode" in said


@pytest.mark.parametrize(
    ("positive", "said"),
    [
        (states(1, value=float("nan")), "not finite"),
        (states(1, value=float("inf")), "not finite"),
        (states(1, tokens=300), "has 300 tokens; at most 256 are allowed"),
        (replace(states(1), text_t5=torch.zeros(1, 8, 24)), "must be equal"),
    ],
)
def test_embeddings_that_no_encoder_makes_are_refused(tmp_path, positive, said):
    negative = TextStates(positive.text) if positive.text_t5 is not None else positive
    assert said in refused_embeddings(tmp_path, positive, negative)


def test_embeddings_whose_bytes_have_changed_are_refused(tmp_path):
    path = write_embeddings(tmp_path / "e.safetensors", PromptEmbeddings(states(2), states(1)))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\x3e")
    with pytest.raises(InputError, match="SHA-256 does not match"):
        read_embeddings(path)
    path.write_bytes(content)
    assert len(read_embeddings(path)) == 2
    with safe_open(path, "pt") as opened:
        told = opened.metadata()
    save_file(load_file(path), path, {k: v for k, v in told.items() if k != "sha256"})
    assert len(read_embeddings(path)) == 2, "files of earlier versions have no hash"


@pytest.mark.parametrize(
    "texts", ['{"prompts": 5}', '{"prompts": ["a"]}', '{"negative_prompt": []}', "[1]", "{" * 9999]
)
def test_texts_that_are_not_those_of_the_rows_are_refused(tmp_path, texts):
    path = write_embeddings(tmp_path / "e.safetensors", PromptEmbeddings(states(2), states(1)))
    told = {"easyanimate_embeddings": "1", "texts": texts}
    save_file(load_file(path), path, told)
    with pytest.raises(InputError):
        read_embeddings(path)


def test_a_kept_embedding_must_be_whole_and_its_own_prompts(tmp_path):
    cache = EmbeddingCache(tmp_path, "encoder")
    for prompt, value in (("a", 0.25), ("b", 0.5)):
        cache.write(prompt, EncodedPrompt(states(1, value=value), ("",)))
    files = {load_file(path)["text"][0, 0, 0].item(): path for path in tmp_path.glob("*")}
    whole = files[0.25].read_bytes()
    assert cache.read("a") is not None
    files[0.25].write_bytes(files[0.5].read_bytes())
    with pytest.raises(InputError, match="belongs to another prompt"):
        cache.read("a")
    files[0.25].write_bytes(whole[:-4] + b"\0\0\0\x3e")
    with pytest.raises(InputError, match="SHA-256"):
        cache.read("a")
    save_file(load_file(files[0.5]), files[0.25], {"cut": '[""]'})
    with pytest.raises(InputError, match="to an earlier version"):
        cache.read("a")
    cache.write("a", EncodedPrompt(states(1, value=0.25), ("",)))
    assert cache.read("a") is not None


# Datasets, reports and training


def test_files_of_a_manifest_that_cannot_be_read_are_named_and_left_out(tmp_path):
    write_png(tmp_path / "good.png", pixels(1)[0])
    (tmp_path / "bad.png").write_bytes(b"nothing")
    (tmp_path / "worse.mp4").write_bytes(b"nothing")
    entries = [
        {"file_path": name, "text": "a", "type": kind}
        for name, kind in (("bad.png", "image"), ("good.png", "image"), ("worse.mp4", "video"))
    ]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(entries))
    told = []
    (record,) = manifest_records(path, None, fps=8, report=told.append)
    assert record.height == pixels(1).shape[1]
    (said,) = told
    assert "2 of 3 files" in said
    assert "bad.png" in said and "worse.mp4" in said
    path.write_text(json.dumps(entries[:1]))
    with pytest.raises(MediaError, match=r"No file of .*manifest.json can be read"):
        manifest_records(path, None, fps=8, report=told.append)


def test_what_is_changed_in_a_clip_of_a_manifest_is_told(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = 2

    frames = [grey(0.5, 48, 32)] * 9
    write_film(tmp_path / "wide.mp4", frames, [i / 8 for i in range(9)], set_up=wide)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([{"file_path": "wide.mp4", "text": "a"}]))
    told = []
    (record,) = manifest_records(path, None, fps=8, report=told.append)
    assert (record.height, record.width) == (48, 64)
    assert told == ["wide.mp4: Its pixels are not square (2:1): 32 x 48 is shown as 64 x 48."]


@pytest.mark.parametrize(
    "entry",
    [
        5,
        {"file_path": ""},
        {"file_path": LONG_NAME},
        {"file_path": "a\0b"},
        {"file_path": "good.png", "type": ["image"]},
        {"file_path": "good.png", "type": "image", "text": 5},
        {"file_path": "good.png", "type": "image", "control_file_path": 5},
        {"file_path": "good.png", "type": "image", "camera_file_path": "a\0b"},
        {"file_path": "gone.png"},
    ],
)
def test_an_entry_of_a_manifest_that_is_none_is_refused(tmp_path, entry):
    write_png(tmp_path / "good.png", pixels(1)[0])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([entry]))
    with pytest.raises(InputError, match=r"Entry 1|of entry 1"):
        manifest_records(path, None, fps=8, report=print)


@pytest.mark.parametrize(
    "row", [{"file_path": "", "text": ""}, {"file_path": "a\0"}, {"file_path": LONG_NAME}, [], 7]
)
def test_prompts_of_an_evaluation_that_name_no_file_are_refused(tmp_path, row):
    write_png(tmp_path / "a.png", pixels(1)[0])
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([{"text": "a", **row} if isinstance(row, dict) else row]))
    with pytest.raises(EasyAnimateError):
        find_video_set(tmp_path / "a.png", prompts=path, clip=tmp_path)


@pytest.mark.parametrize(
    "videos", [5, ["a"], {"a": 5}, {"a": {"ssim": "x"}}, {"a": {"ssim": None}}, {"a": [1]}]
)
def test_a_report_of_other_values_is_refused(tmp_path, videos):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps({"kind": "videos", "videos": videos}))
    with pytest.raises(InputError, match="it must be an object of numbers by metric, by video"):
        compare_reports(tmp_path / "a.json", tmp_path / "b.json")


@pytest.mark.parametrize(
    "line",
    [
        "output: 2024-01-01\ntask: 2024-01-01",
        "task: &a [*a]",
        "model: !!python/object/apply:os.system [echo]",
        "run: {steps: 1e999}",
        "run: {steps: .inf}",
        "run: {steps: " + "9" * 5000 + "}",
        "seed: 1\nseed: 2",
        "no: 1",
        "model: {network: {in_channels: 1000000000}}",
    ],
)
def test_a_training_config_of_any_other_value_is_refused(tmp_path, line):
    path = tmp_path / "run.yaml"
    path.write_text(line)
    with pytest.raises(InputError) as refused:
        read_config(path)
    assert "run.yaml" in str(refused.value)


@pytest.mark.parametrize("key", ["output", "checkpoint", "manifest"])
@pytest.mark.parametrize(
    ("name", "said"),
    [("a\0b", "contains a NUL character"), ("x" * 300, "has a component of 300 bytes")],
)
def test_paths_of_a_training_config_that_no_file_has_are_refused(key, name, said):
    named = {"output": "run", "checkpoint": "model", "manifest": "clips.json", key: name}
    content = {
        "task": "text_to_video",
        "output": named["output"],
        "model": {"checkpoint": named["checkpoint"]},
        "data": {"manifest": named["manifest"], "tokens": [45], "frames": [1]},
        "run": {"steps": 1},
    }
    with pytest.raises(InputError) as refused:
        parse_config(content)
    (fault,) = str(refused.value).splitlines()[1:]
    assert f"{key} is " in fault
    assert said in fault
    assert len(fault) < 400
