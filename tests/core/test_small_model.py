"""The model that ships with the package: its folders, and `generate` without --model."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from easyanimate_core import recipe_files, small_model
from easyanimate_core.cli.main import main
from easyanimate_core.errors import CheckpointError
from easyanimate_core.media import read_video, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.recipe import Recipe
from easyanimate_core.recipe_files import LORA, files_of, without_folders
from easyanimate_core.shapes.scenes import COLOURS, LANGUAGES, SHAPES, TINTS, caption, make_scene
from easyanimate_core.small_model import (
    NAMES,
    SIZE,
    installed_loras,
    installed_names,
    made_again,
    named_checkpoint,
    named_lora,
    small_checkpoint,
)
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.lora import Lora, matrix_shapes, read_lora
from tests.factories import (
    SMALL_MODELS,
    SMALL_VERSIONS,
    V5,
    V5_1,
    needs_small_model,
    pixels,
)

FRAMES, HEIGHT, WIDTH = SIZE

pytestmark = needs_small_model(V5_1)


@pytest.fixture
def generate(tmp_path, capsys):
    def run(*options):
        output = tmp_path / "video.mp4"
        words = ["--steps", "2", "--prompt", small_model.EXAMPLE_PROMPT, "--output", output]
        assert main(["generate", *map(str, (*words, *options))]) == 0
        return capsys.readouterr().out, output

    return run


@pytest.mark.parametrize("model", SMALL_MODELS)
def test_every_head_is_a_whole_checkpoint(model):
    info = inspect_checkpoint(small_checkpoint(*model))
    assert (info.head, info.version) == model
    assert info.transformer.has_reference == (
        model.version is V5_1 and model.head is not Head.INPAINT
    )
    assert info.transformer.keep_known == (model.head is Head.INPAINT)


@pytest.mark.parametrize("version", SMALL_VERSIONS)
def test_a_checkpoint_is_made_once(version):
    folder = small_checkpoint(Head.INPAINT, version)
    marker = folder / "marker"
    marker.touch()
    assert small_checkpoint(Head.INPAINT, version) == folder
    assert marker.exists()


def test_names_of_lists():
    assert list(NAMES) == [
        f"small (built in): {name}"
        for name in ("InP", "Control", "Control-Camera", "V5 InP", "V5 Control")
    ]


@pytest.mark.parametrize("model", SMALL_MODELS)
def test_a_name_of_a_list_leads_to_its_checkpoint(model):
    (name,) = (name for name, own in NAMES.items() if own == model)
    assert name in installed_names()
    assert named_checkpoint(name) == small_checkpoint(*model)


def test_only_what_is_there_is_listed(tmp_path, monkeypatch):
    shutil.copytree(
        small_model.FOLDER, tmp_path / "half", ignore=shutil.ignore_patterns(V5.value.lower())
    )
    monkeypatch.setattr(small_model, "FOLDER", tmp_path / "half")
    assert installed_names() == [name for name in NAMES if "V5" not in name]
    with pytest.raises(CheckpointError, match="does not include the small model"):
        small_checkpoint(Head.INPAINT, V5)


@pytest.mark.parametrize("name", NAMES)
def test_commands_take_its_names(name, tmp_path, capsys):
    folder = small_model.named_checkpoint(name)
    assert folder.is_dir()
    assert main(["describe", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder)
    assert main(["plan", "--model", name, "--vram", "8"]) == 0
    whole = tmp_path / "whole"
    assert main(["convert", name, str(whole)]) == 0
    assert inspect_checkpoint(whole).head is inspect_checkpoint(folder).head
    assert main(["encode", "--model", name, "--prompt", "a", "--out", f"{whole}.safetensors"]) == 0


def test_a_name_that_only_begins_like_its_own_is_refused(tmp_path, capsys):
    for words in (["describe"], ["encode", "--prompt", "a", "--out", str(tmp_path), "--model"]):
        with pytest.raises(SystemExit):
            main([*words, "small (built in): T2V"])
        said = capsys.readouterr().err
        assert "There is no built-in model 'small (built in): T2V'; there are 'small" in said
    assert small_model.named_checkpoint("small") is None


def test_a_name_has_the_size_of_its_model(generate):
    out, output = generate("--model", next(iter(NAMES)), "--frames", "5")
    assert "note: the small model generates 5 frames of 96 x 96." in out
    assert read_video(output).frames.shape[:3] == (5, HEIGHT, WIDTH)


@pytest.mark.parametrize("model", SMALL_MODELS)
def test_every_head_has_a_lora_for_few_steps_that_fits_and_says_so(model):
    (name,) = (name for name, own in small_model.LORA_NAMES.items() if own == model)
    assert name in installed_loras()
    file = named_lora(name)
    info = inspect_checkpoint(small_checkpoint(*model))
    shapes = matrix_shapes(info.transformer_files.weights)
    read = read_lora(Lora(file), shapes, (info.version, info.head))
    assert len(read.layers) == 54
    assert read.notes == ("It is for few steps: use a guidance of 1, more would be too much.",)
    assert "sample in few steps with guidance 1" in read.card.facts["distilled"]
    assert file.stat().st_size < 0.8e6


def test_names_of_loras():
    assert list(small_model.LORA_NAMES) == [f"{name} four steps" for name in NAMES]
    assert named_lora("small.safetensors") is None
    with pytest.raises(CheckpointError, match=r"no built-in LoRA 'small \(built in\): InP'; there"):
        named_lora("small (built in): InP")


def test_a_lora_that_is_not_included_is_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_files, "BUILT_IN_LORAS", tmp_path)
    assert installed_loras() == []
    with pytest.raises(CheckpointError, match="does not include the small model's LoRAs"):
        named_lora("small (built in): InP four steps")


@pytest.mark.slow
def test_generate_takes_a_lora_by_its_name_and_its_recipe_finds_it_anywhere(
    generate, tmp_path, capsys
):
    name = "small (built in): InP four steps"
    few = ["--guidance-scale", "1", "--steps", "1", "--frames", "5", "--force"]
    made = []
    for option in ("=0.5:0-2=0.5", ""):
        said, output = generate("--lora", name + option, *few)
        assert "54 layers" in said
        made.append(read_video(output).frames)
    assert not torch.equal(*made)
    recipe = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    (file,) = (file for file in files_of(recipe) if file.part == LORA)
    assert file.is_built_in
    for place, separator in (("C:\\pack\\easyanimate_core\\", "\\"), ("/elsewhere/", "/")):
        parts = ("small_model_weights", "loras", "InP-four-steps.safetensors")
        recipe["loras"][0]["file"] = place + separator.join(parts)
        moved, again = tmp_path / "moved.json", tmp_path / "again.mp4"
        moved.write_text(json.dumps(recipe), encoding="utf-8")
        capsys.readouterr()
        # Without --yes: it opens nothing of others.
        assert main(["generate", "--recipe", str(moved), "--output", str(again), "--force"]) == 0
        assert (read_video(again).frames - made[1]).abs().mean() < 0.01
    kept = without_folders(recipe)["loras"][0]["file"]
    assert kept == "small_model_weights/loras/InP-four-steps.safetensors"


def test_what_only_looks_like_an_own_lora_is_told_and_asked_for(tmp_path):
    for path in ("loras/InP-four-steps.safetensors", "small_model_weights/loras/x.safetensors"):
        recipe = {"loras": [{"file": str(tmp_path / path)}]}
        (file,) = files_of(recipe)
        assert not file.is_built_in


def test_a_name_that_only_begins_like_a_loras_is_refused(capsys):
    words = ["generate", "--prompt", "a", "--lora", "small (built in): InP two steps"]
    assert main(words) == 2
    assert "There is no built-in LoRA 'small (built in): InP two steps'" in capsys.readouterr().err


def test_heads_that_it_lacks_are_refused():
    with pytest.raises(CheckpointError, match="no T2V head; it has InP, Control, Control-Camera"):
        small_checkpoint(Head.T2V)
    with pytest.raises(CheckpointError, match=r"of V5 has no Control-Camera head; .* V5.1 has it"):
        small_checkpoint(Head.CAMERA, V5)


@pytest.mark.parametrize("model", SMALL_MODELS)
def test_a_folder_of_another_machine_is_found_again(tmp_path, model):
    elsewhere = tmp_path / "home" / "small-model" / "0123" / small_checkpoint(*model).name
    assert made_again(elsewhere) == small_checkpoint(*model)
    assert made_again(tmp_path / "models" / "0123" / elsewhere.name) is None
    assert made_again(elsewhere.with_name("V5-Control-Camera")) is None


@pytest.mark.parametrize(
    ("options", "head"),
    [
        ([], "InP"),
        (["--start-image", "@start.png"], "InP"),
        (["--trajectory", '[{"x": 20, "y": 48}, {"x": 70, "y": 48}]'], "Control"),
        (["--camera", "Pan Left", "--reference", "@start.png"], "Control-Camera"),
        pytest.param(["--version", "v5"], "InP", marks=needs_small_model(V5)),
        pytest.param(
            ["--version", "V5", "--trajectory", '[{"x": 20, "y": 48}, {"x": 70, "y": 48}]'],
            "Control",
            marks=needs_small_model(V5),
        ),
    ],
    ids=["text", "start image", "trajectory", "camera", "V5 text", "V5 trajectory"],
)
def test_generate_without_a_model(generate, tmp_path, options, head):
    write_png(tmp_path / "start.png", pixels(1, height=HEIGHT, width=WIDTH)[0])
    said, output = generate(*(option.replace("@", f"{tmp_path}/") for option in options))
    assert said.splitlines()[0].startswith("note: no --model is given: the small model")
    assert f"{FRAMES} frames of {HEIGHT} x {WIDTH}" in said.splitlines()[0]
    version = "V5" if "--version" in options else "V5.1"
    assert said.splitlines()[1].startswith(f"EasyAnimate {version} ")
    assert f" {head}, " in said.splitlines()[1]
    assert read_video(output).frames.shape == (FRAMES, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--version", "v5", "--camera", "Pan Left"], "use --version v5.1"),
        (
            ["--version", "v5", "--control", "control.mp4", "--reference", "start.png"],
            "use --version v5.1",
        ),
        (["--version", "v5", "--model", "folder"], "Omit --version, or --model"),
        (["--version", "v5", "--recipe", "clip.mp4"], "--version"),
    ],
    ids=["camera", "reference", "with a model", "with a recipe"],
)
def test_a_version_that_cannot_is_refused(tmp_path, capsys, options, said):
    prompt = [] if "--recipe" in options else ["--prompt", "a"]
    out = ["--output", str(tmp_path / "video.mp4")]
    assert main(["generate", *prompt, *options, *out]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert not list(tmp_path.iterdir())


def test_a_size_that_is_asked_for_is_kept(generate):
    said, output = generate("--size", "64x80", "--frames", "5")
    assert "5 frames of 64 x 80" in said.splitlines()[0]
    assert read_video(output).frames.shape == (5, 64, 80, 3)


@pytest.mark.parametrize("version", SMALL_VERSIONS)
def test_a_recipe_finds_it_after_its_folder_is_gone(generate, tmp_path, version):
    _, output = generate("--version", version.value)
    folder = Path(Recipe.read(output).model["path"])
    shutil.rmtree(folder.parent)
    moved = tmp_path / "moved.json"
    recipe = json.loads(output.with_suffix(".json").read_text(encoding="utf-8"))
    recipe["model"]["path"] = str(tmp_path / "other" / "small-model" / "0123" / folder.name)
    moved.write_text(json.dumps(recipe), encoding="utf-8")
    for source in (output, moved):
        again = tmp_path / f"again_{source.stem}.mp4"
        assert main(["generate", "--recipe", str(source), "--output", str(again)]) == 0
        # x264 does not repeat itself to the bit; another seed differs by 0.1 and more.
        assert (read_video(again).frames - read_video(output).frames).abs().mean() < 0.01


def test_help_tells_the_words_that_it_knows(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    said = capsys.readouterr().out.partition("Without --model")[2].partition("options:")[0]
    for word in (*SHAPES, *COLOURS, *TINTS, "plain", "stripe", "check", "cloud"):
        assert word in said
    prompts = re.findall(r'--prompt "(.+?)"', said)
    assert small_model.EXAMPLE_PROMPT in prompts
    known = {
        word
        for index in range(300)
        for language in LANGUAGES
        for word in words_of(caption(make_scene(3, index), language))
    }
    assert len(prompts) == 4
    assert {word for prompt in prompts for word in words_of(prompt)} <= known


def words_of(prompt):
    """English words; Chinese characters, which have no spaces."""
    return re.findall(r"[A-Za-z]+|[\u4e00-\u9fff]", prompt)
