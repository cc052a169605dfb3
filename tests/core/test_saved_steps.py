"""Runs that leave out steps or the negative prompt, on tiny checkpoints."""

import pytest
import torch
from safetensors.torch import save_file

from easyanimate_core.memory.options import Memory
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.progress import silent
from easyanimate_core.recipe import Recipe
from easyanimate_core.tasks import ImageToVideo, TextToVideo, VideoToVideo
from easyanimate_core.weights.lora import Lora, matrix_shapes
from tests.factories import FRAMES, V5, V5_1, lora_tensors, pixels, quick

PROMPT = "A dog shakes its head."
CLIP, PICTURE = pixels(1, frames=FRAMES), pixels(3)
# As in tests/core/test_pipeline.py: rows of a batch round differently; effects are far larger.
BATCH_TOLERANCE, EFFECT = 1e-4, 1e-3
HALF = {"steps": 10, "step_cache": 0.5, "seed": 5}


def difference(one, other):
    return float((one.latents - other.latents).abs().max() / one.latents.abs().max())


@pytest.fixture
def rows_of():
    """`rows_of(model, run)`: the rows of every call of the denoiser, and what `run` returns."""

    def counted(model, run):
        rows = []
        with model._networks.transformer(silent) as transformer:
            handle = transformer.register_forward_pre_hook(
                lambda _, given: rows.append(len(given[0]))
            )
        try:
            return rows, run()
        finally:
            handle.remove()

    return counted


@pytest.mark.parametrize("version", [V5_1, V5])
def test_evaluations_are_those_of_the_plan(pipeline, rows_of, version):
    model = pipeline(version, Head.T2V)
    rows, saved = rows_of(model, lambda: model.generate(PROMPT, settings=quick(**HALF)))
    assert rows == [2] * 5
    assert saved.notes == (
        "10 of 20 evaluations of the denoiser were made: 5 steps of 10 left out.",
    )
    whole = model.generate(PROMPT, settings=quick(steps=10, seed=5))
    assert whole.notes == ()
    assert difference(saved, whole) > EFFECT
    again = model.generate(PROMPT, settings=quick(**HALF))
    assert torch.equal(saved.latents, again.latents)  # nothing of a run is left to the next


@pytest.mark.parametrize("sequential", [False, True])
def test_the_negative_prompt_is_evaluated_in_its_window(checkpoint, rows_of, sequential):
    model = Pipeline.load(checkpoint(V5_1, Head.T2V), memory=Memory(sequential_guidance=sequential))
    settings = quick(steps=8, guidance_window=0.5)
    rows, _ = rows_of(model, lambda: model.generate(PROMPT, settings=settings))
    assert rows == ([1] * 12 if sequential else [2] * 4 + [1] * 4)
    off = quick(steps=8, guidance_window=0.0)
    rows, none = rows_of(model, lambda: model.generate(PROMPT, settings=off))
    assert rows == [1] * 8
    plain = model.generate(PROMPT, settings=quick(steps=8, guidance_scale=1.0))
    assert torch.equal(none.latents, plain.latents)


def test_too_few_steps_to_leave_any_out_give_the_same_bits(pipeline):
    model = pipeline(V5_1, Head.T2V)
    plain = model.generate(PROMPT, settings=quick(steps=4))
    cached = model.generate(PROMPT, settings=quick(steps=4, step_cache=0.7))
    assert torch.equal(plain.latents, cached.latents)
    assert cached.notes == (
        "8 of 8 evaluations of the denoiser were made: the steps are too few to leave any out.",
    )


COMPOSED = [
    (V5_1, Head.T2V, TextToVideo(), {}),
    (V5_1, Head.INPAINT, ImageToVideo(start=PICTURE), {"keep_known": True}),
    (V5, Head.INPAINT, VideoToVideo(CLIP, 0.7), {"guidance_rescale": 0.5}),
    (V5, Head.T2V, TextToVideo(), {"scheduler": "Euler A"}),
    (V5, Head.T2V, TextToVideo(), {"scheduler": "PNDM", "guidance_scale": 1.0}),
]


@pytest.mark.parametrize(("version", "head", "task", "changes"), COMPOSED)
def test_a_batch_of_two_is_two_runs(pipeline, version, head, task, changes):
    model = pipeline(version, head)
    settings = {**HALF, "guidance_window": 0.8, **changes}
    batch = model.generate(PROMPT, task, quick(**settings, batch=2))
    for row in range(2):
        single = model.generate(PROMPT, task, quick(**{**settings, "seed": 5 + row}))
        error = (batch.latents[row] - single.latents[0]).abs().max()
        assert error <= BATCH_TOLERANCE * single.latents.abs().max()


def test_prompts_one_after_the_other_are_a_batch(checkpoint):
    together, apart = (
        Pipeline.load(checkpoint(V5_1, Head.T2V), memory=Memory(sequential_guidance=sequential))
        .generate(PROMPT, settings=quick(**HALF))
        for sequential in (False, True)
    )  # fmt: skip
    assert difference(together, apart) <= BATCH_TOLERANCE


def test_a_lora_acts_in_the_steps_that_are_made(pipeline, tmp_path):
    model = pipeline(V5_1, Head.T2V)
    file = tmp_path / "lora.safetensors"
    save_file(lora_tensors(matrix_shapes(model.info.transformer_files.weights)), file)
    with_lora = model.generate(PROMPT, settings=quick(**HALF), loras=[Lora(file, 1.0)])
    assert difference(with_lora, model.generate(PROMPT, settings=quick(**HALF))) > EFFECT


def test_a_recipe_repeats_what_was_left_out(pipeline, tmp_path):
    model = pipeline(V5_1, Head.T2V)
    first = model.generate(PROMPT, settings=quick(**HALF, guidance_window=0.8))
    recipe = Recipe.read(first.save(tmp_path / "video.mp4")[0])
    assert (recipe.settings.step_cache, recipe.settings.guidance_window) == (0.5, 0.8)
    again = model.generate(recipe.prompts, recipe.task, recipe.settings)
    assert torch.equal(first.latents, again.latents)
    value = recipe.to_json()
    for name in ("step_cache", "guidance_window"):  # as written before these settings
        value["settings"].pop(name)
    assert Recipe.from_json(value).settings.step_cache == 0
