"""Recipes: the run again from its own video, and refusals of what would give another one."""

import json
import shutil
from importlib import metadata

import pytest
import torch

from easyanimate_core.errors import InputError, MediaError, RecipeError
from easyanimate_core.media import read_metadata, write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.output import check_output
from easyanimate_core.paths.camera import camera_path
from easyanimate_core.paths.trajectory import Track
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.recipe import METADATA_KEY, Recipe, fingerprint
from easyanimate_core.settings import Settings
from easyanimate_core.tasks import (
    Camera,
    Control,
    ImageToVideo,
    RegionEdit,
    TextToVideo,
    Trajectory,
    VideoToVideo,
)
from tests.factories import FRAMES, V5, V5_1, pixels, quick

PROMPT = 'A dog "shakes"\nits head. 一只可爱的小狗; = \\ #'
RUNS = {
    "text": (V5_1, Head.T2V, lambda _: TextToVideo()),
    "keyframes": (
        V5_1,
        Head.INPAINT,
        lambda f: ImageToVideo(f / "picture.png", None, {-1: f / "other.png", 2: f / "other.png"}),
    ),
    "clip": (V5, Head.T2V, lambda f: VideoToVideo(f / "fast.mp4", 0.5)),
    "region": (V5, Head.INPAINT, lambda f: RegionEdit(f / "clip.mp4", f / "mask.png", 0.5)),
    "control": (V5_1, Head.CONTROL, lambda f: Control(f / "clip.mp4", f / "picture.png")),
    "moves": (V5_1, Head.CAMERA, lambda f: Camera(("CW",), 0.5, reference=f / "picture.png")),
    "one move": (V5_1, Head.CAMERA, lambda _: Camera("Pan Up")),
    "poses": (V5_1, Head.CAMERA, lambda f: Camera(poses=f / "poses.txt")),
    "poses in memory": (
        V5_1, Head.CAMERA, lambda _: Camera(poses=camera_path(["Pan Up"], frames=7)),
    ),
    "tracks": (V5_1, Head.CONTROL, lambda f: Trajectory(str(f / "tracks.json"))),
    "tracks as text": (V5, Head.CONTROL, lambda f: Trajectory((f / "tracks.json").read_text())),
    "tracks in memory": (
        V5, Head.CONTROL, lambda _: Trajectory((Track(((1.5, 2.0), (70.0, 40.0))),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("version", "head", "make_task"), RUNS.values(), ids=RUNS.keys())
def test_a_run_again_from_video_or_sidecar(pipeline, files, tmp_path, version, head, make_task):
    model, task = pipeline(version, head), make_task(files)
    settings = quick(seed=7, guidance_scale=3.5, guidance_rescale=0.3, negative_prompt="雪")
    first = model.generate([PROMPT], task, settings)
    video, sidecar = first.save(tmp_path / "video.mp4")
    recipe = Recipe.read(video)
    assert recipe.to_json() == Recipe.read(sidecar).to_json() == first.recipe.to_json()
    assert recipe.model["path"] == str(model.info.path)
    again = Pipeline.load(recipe.model["path"]).generate(
        recipe.prompts, recipe.task, recipe.settings
    )
    assert torch.equal(again.latents, first.latents)
    assert torch.equal(again.frames, first.frames)
    assert again.notes == first.notes
    assert again.recipe.to_json() == first.recipe.to_json()


def test_what_was_left_open_is_settled(pipeline, tmp_path):
    settings = Settings(steps=1, frames=1, guidance_scale=1.0)
    result = pipeline(V5_1, Head.T2V).generate(PROMPT, settings=settings)
    found = result.recipe.settings
    assert (found.height, found.width, found.frames, found.scheduler) == (384, 672, 1, "Flow")
    written = json.loads(result.save(tmp_path / "picture.png")[1].read_text())
    assert written["settings"]["scheduler"] == "Flow"
    assert written["prompts"] == [PROMPT]
    assert written["made_with"]["torch"] == metadata.version("torch")


def test_a_picture_holds_its_recipe(pipeline, tmp_path):
    model = pipeline(V5_1, Head.T2V)
    first = model.generate(PROMPT, settings=quick(frames=1))
    picture, sidecar = first.save(tmp_path / "picture.png")
    assert sidecar.name == "picture.json"
    for file in (picture, sidecar):
        recipe = Recipe.read(file)
        again = model.generate(recipe.prompts, recipe.task, recipe.settings)
        assert torch.equal(again.frames, first.frames)


def test_samples_are_numbered_and_share_a_sidecar(pipeline, tmp_path):
    result = pipeline(V5_1, Head.T2V).generate([PROMPT, "A cat."], settings=quick())
    written = result.save(tmp_path / "new" / "video.mp4")
    assert [file.name for file in written] == ["video_0.mp4", "video_1.mp4", "video.json"]
    assert sorted(tmp_path.joinpath("new").iterdir()) == sorted(written)
    assert Recipe.read(written[1]).prompts == (PROMPT, "A cat.")


def test_the_folder_may_move_and_its_name_may_change(checkpoint, checkpoint_copy):
    from easyanimate_core.weights.files import inspect_checkpoint

    original = inspect_checkpoint(checkpoint(V5_1, Head.T2V))
    moved = inspect_checkpoint(checkpoint_copy(V5_1, Head.T2V, "elsewhere"))
    other = inspect_checkpoint(checkpoint(V5_1, Head.T2V, seed=1))
    assert fingerprint(original) == fingerprint(moved) != fingerprint(other)


# Refusals


@pytest.fixture(scope="module")
def written(pipeline, files):
    """The recipe of an image to video run as JSON values."""
    task = ImageToVideo(files / "picture.png")
    return pipeline(V5_1, Head.INPAINT).generate(PROMPT, task, quick(steps=1)).recipe.to_json()


def put(path, value):
    """A change of the recipe: the value at `path`, or `...` to remove it."""

    def change(recipe):
        *parents, last = path
        for key in parents:
            recipe = recipe[key]
        if value is ...:
            del recipe[last]
        else:
            recipe[last] = value

    return change


CHANGES = {
    "unknown key": (put(["extra"], 1), "The recipe has the unknown key extra. Allowed: format"),
    "unknown key of the model": (put(["model", "extra"], "x"), "recipe's model has the unknown"),
    "unknown source": (put(["sources", "middle"], None), "sources has the unknown key middle"),
    "unknown key of a source": (put(["sources", "start", "x"], 1), "start has the unknown key x"),
    "unknown setting": (put(["settings", "cfg"], 6), "settings has the unknown key cfg"),
    "no format": (put(["format"], ...), "The recipe lacks format"),
    "no model": (put(["model"], ...), "The recipe lacks model"),
    "no prompts": (put(["prompts"], ...), "The recipe lacks prompts"),
    "no fingerprint": (put(["model", "fingerprint"], ...), "model lacks fingerprint"),
    "no hash": (put(["sources", "start", "sha256"], ...), "start lacks sha256"),
    "another format": (put(["format"], 2), "has format 2; this version reads 1"),
    "another mode": (put(["mode"], "dream"), "mode 'dream'; it must be one of text_to_video"),
    "a list for a mode": (put(["mode"], []), "mode []; it must be one of"),
    "a text for the prompts": (put(["prompts"], "A dog."), "prompts must be texts, not 'A dog.'"),
    "numbers for prompts": (put(["prompts"], [1]), "prompts must be texts"),
    "a list for the model": (put(["model"], []), "model must be a JSON object"),
    "a number in the model": (put(["model", "path"], 5), "model must be texts"),
    "a list for the sources": (put(["sources"], []), "sources must be a JSON object"),
    "a list for the settings": (put(["settings"], []), "settings must be a JSON object"),
    "a path without hash": (put(["sources", "start"], "a.png"), "start is 'a.png'"),
    "a number for a file": (put(["sources", "start"], 5), "start is 5"),
    "a word for a frame number": (
        put(["sources", "keyframes"], {"first": None}), "invalid literal for int",
    ),
    "nothing for a keyframe": (put(["sources", "keyframes"], {"0": None}), "keyframe is None"),
    "a text for a count": (put(["settings", "steps"], "5"), "steps is '5'; it must be a whole"),
    "half a step": (put(["settings", "steps"], 2.5), "steps is 2.5; it must be a whole number"),
    "a text for a rate": (put(["settings", "fps"], "8"), "wrong type"),
    "a bad size": (put(["settings", "height"], 60), "height is 60"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_recipe_is_refused_by_name(written, change, message):
    recipe = json.loads(json.dumps(written))
    change(recipe)
    with pytest.raises((RecipeError, InputError)) as caught:
        Recipe.from_json(recipe)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"), [("strength", "0.5"), ("strength", None), ("speed", [1]), ("moves", 5)]
)
def test_values_of_a_wrong_type_are_refused(written, field, value):
    recipe = json.loads(json.dumps(written))
    if field == "strength":
        recipe["mode"], recipe["sources"] = "video_to_video", {
            "video": written["sources"]["start"], "strength": value,
        }  # fmt: skip
    else:
        recipe["mode"], recipe["sources"] = "camera", {"moves": ["CW"]} | {field: value}
    with pytest.raises(RecipeError, match=field):
        Recipe.from_json(recipe)


def test_a_missing_source_of_the_mode_is_refused(written):
    recipe = json.loads(json.dumps(written)) | {"mode": "control", "sources": {}}
    with pytest.raises(RecipeError, match=r"incomplete .*'video'"):
        Recipe.from_json(recipe)


@pytest.fixture
def run_of_a_file(pipeline, tmp_path):
    """A recipe file of a run, and the picture that the run started from."""
    picture = write_png(tmp_path / "start.png", pixels(1)[0])
    task = ImageToVideo(picture)
    result = pipeline(V5_1, Head.INPAINT).generate(PROMPT, task, quick(steps=1))
    return result.save(tmp_path / "video.mp4")[0], picture


def test_a_changed_source_is_refused(run_of_a_file):
    video, picture = run_of_a_file
    write_png(picture, pixels(2)[0])
    with pytest.raises(RecipeError, match=r"start\.png has changed since .*SHA-256 differs"):
        Recipe.read(video)


def test_a_source_that_is_gone_is_refused(run_of_a_file):
    video, picture = run_of_a_file
    picture.unlink()
    with pytest.raises(RecipeError, match=r"start is .*start\.png\. It was not found there"):
        Recipe.read(video)


def test_the_hash_is_that_of_what_was_read(pipeline, tmp_path):
    """A source that is replaced while the run goes on must not vouch for the result."""
    picture = write_png(tmp_path / "start.png", pixels(1)[0])
    copy = shutil.copy(picture, tmp_path / "copy.png")

    def replace_it(stage, done, total):
        if (stage, done) == ("denoise", total):
            write_png(picture, pixels(2)[0])

    model = pipeline(V5_1, Head.INPAINT)
    result = model.generate(PROMPT, ImageToVideo(picture), quick(steps=1), progress=replace_it)
    video = result.save(tmp_path / "video.mp4")[0]
    with pytest.raises(RecipeError, match="has changed"):
        Recipe.read(video)
    shutil.copy(copy, picture)
    Recipe.read(video)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_in_memory_cannot_be_repeated(pipeline, tmp_path, dtype):
    task = VideoToVideo(pixels(1, frames=FRAMES).to(dtype), 1.0)
    result = pipeline(V5_1, Head.T2V).generate(PROMPT, task, quick(steps=1))
    with pytest.raises(RecipeError, match=r"video was given as pixels in memory.*Run the script"):
        Recipe.read(result.save(tmp_path / "video.mp4")[0])


def test_files_that_hold_no_recipe(tmp_path):
    video = write_mp4(tmp_path / "plain.mp4", pixels(1, frames=5))
    picture = write_png(tmp_path / "plain.png", pixels(1)[0])
    broken = write_mp4(tmp_path / "b.mp4", pixels(1, frames=5), metadata={METADATA_KEY: "{"})
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    for path, error, message in (
        (video, RecipeError, "has no recipe in its metadata"),
        (picture, RecipeError, "has no recipe in its metadata"),
        (broken, RecipeError, "is not valid JSON"),
        (tmp_path / "list.json", RecipeError, "holds a list, not a JSON object"),
        (tmp_path / "deep.json", RecipeError, "is not valid JSON"),
        (tmp_path / "bytes.json", RecipeError, "cannot be read"),
        (tmp_path / "missing.json", RecipeError, "cannot be read"),
        (tmp_path, RecipeError, "cannot be read"),
        (tmp_path / "missing.mp4", MediaError, "does not exist"),
    ):
        with pytest.raises(error, match=message):
            Recipe.read(path)


def test_prompts_of_any_text_come_back(pipeline, tmp_path):
    prompts = ["", "\n\t 😀 \x00 ﷽", '{"format": 1}', "\\N{BULLET} %s"]
    result = pipeline(V5_1, Head.T2V).generate(
        prompts, settings=quick(steps=1, height=16, width=16, frames=1, guidance_scale=1.0)
    )
    for file in result.save(tmp_path / "picture.png"):
        assert Recipe.read(file).prompts == tuple(prompts)
        assert read_metadata(file) if file.suffix == ".png" else True


# Outputs


@pytest.mark.parametrize(
    ("output", "task", "samples"),
    [
        ("clip.mp4", VideoToVideo("clip.mp4"), 1),
        ("tracks.mp4", Trajectory("tracks.json"), 1),  # its sidecar
        ("a.png", ImageToVideo(keyframes={0: "a.png"}), 1),
        ("clip.mp4", VideoToVideo("clip_1.mp4"), 2),
    ],
)
def test_a_source_is_not_written_over(output, task, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = 1 if output.endswith(".png") else 5
    with pytest.raises(InputError, match="would overwrite its own source"):
        check_output(tmp_path / output, frames, task, samples=samples)
    check_output(tmp_path / f"other_{output}", frames, task, samples=samples)


@pytest.mark.parametrize(
    ("output", "frames", "message"),
    [
        ("video.avi", 5, "'video.avi'; it must end in .mp4 or .png"),
        ("video", 5, "must end in .mp4 or .png"),
        ("video.png", 5, r"A .png holds 1 frame, not 5. Use .mp4, or --frames 1"),
    ],
)
def test_an_output_that_cannot_hold_the_video_is_refused(output, frames, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / output, frames, TextToVideo())
    check_output(tmp_path / "one.png", 1, TextToVideo())
