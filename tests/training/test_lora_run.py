"""A LoRA of pictures or clips in memory: what is refused, what a second run does."""

import json
from dataclasses import replace

import pytest
import torch

from easyanimate_core.errors import HeadError, InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.settings import Settings
from easyanimate_core.training import lora_run
from easyanimate_core.training.lora_run import LoraJob, train_lora
from easyanimate_core.weights.lora import Lora
from tests.factories import V5_1, pixels


@pytest.fixture
def job(checkpoint):
    return LoraJob(
        checkpoint=checkpoint(V5_1, Head.INPAINT),
        pictures=pixels(3, frames=10, height=32, width=48),
        captions="a red circle\na blue square",
        frames_per_clip=5,
        steps=3,
        rank=2,
        alpha=2.0,
        learning_rate=0.01,
        seed=2**62,
    )


def test_clips_make_a_lora(job, tmp_path):
    with torch.inference_mode():  # as a host runs everything
        inside = replace(job, pictures=job.pictures.clone())
        result = train_lora(inside, tmp_path)
    assert result.curves.ndim == 4
    assert result.curves.std() > 0.01
    said = result.report.splitlines()
    assert said[0] == "3 steps on 2 clips of 5 frames, 48 x 32, for EasyAnimate V5.1 InP; rank 2."
    assert said[1].startswith("Loss: ")
    assert "scaled and cropped" not in result.report
    pipeline = Pipeline.load(job.checkpoint)
    small = Settings(height=32, width=32, frames=5, steps=2)
    plain, changed = (
        pipeline.generate("a red circle", settings=small, loras=loras).latents
        for loras in ((), (Lora(result.file),))
    )
    assert not torch.equal(plain, changed)


def test_pictures_of_any_size_and_one_caption(job, tmp_path):
    one = replace(
        job, pictures=pixels(3, frames=3, height=40, width=60), frames_per_clip=1, captions="x"
    )
    said = train_lora(one, tmp_path).report
    assert "3 steps on 3 clips of 1 frame, 48 x 32" in said
    assert "The images are 60 x 40; they were scaled and cropped to 48 x 32" in said


def test_a_stopped_job_goes_on_and_other_jobs_begin_anew(job, tmp_path, monkeypatch):
    monkeypatch.setattr(lora_run, "_SAVE_EVERY", 2)
    long = replace(job, steps=5)

    def cancel(stage, done, _total):
        if (stage, done) == ("train", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_lora(long, tmp_path, progress=cancel)
    assert not list(tmp_path.rglob("lora.safetensors"))
    began = []
    said = train_lora(
        long, tmp_path, progress=lambda stage, done, _: began.append((stage, done))
    ).report
    assert began[0] == ("train", 3)  # captions are known
    assert "Resuming after step 3." in said
    for changes in ({"seed": 2}, {"captions": "other"}, {"pictures": 1 - job.pictures}):
        assert "Resuming" not in train_lora(replace(job, steps=1, **changes), tmp_path).report
    runs = [path.parent for path in tmp_path.glob("*/config.json")]
    assert len(runs) == 4
    config = json.loads((runs[0] / "config.json").read_text())
    assert config["run"]["gradient_checkpointing"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frames_per_clip": 4}, "frames is 4; the length must be 4n + 1"),
        ({"frames_per_clip": 9}, "10 images and frames_per_clip is 9; the number of images must"),
        ({"captions": " \n"}, "captions has no lines or an empty one"),
        ({"captions": "a\n\nb"}, "captions has no lines or an empty one"),
        ({"captions": "a\nb\nc"}, "captions has 3 lines and there are 2 clips"),
        ({"pictures": torch.zeros(5, 32, 32, 4)}, "it must be [frames, height, width, 3]"),
        ({"pictures": torch.zeros(5, 8, 32, 3)}, "the minimum is 16 x 16"),
        ({"rank": 0}, "model.lora.rank is 0"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate is 0.0"),
    ],
)
def test_what_does_not_fit_is_refused(job, tmp_path, changes, said):
    with pytest.raises(InputError) as error:
        train_lora(replace(job, **changes), tmp_path)
    assert said in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("head", "said"), [(Head.CONTROL, "control video"), (Head.CAMERA, "camera path")]
)
def test_heads_that_need_more_than_clips_are_refused(job, checkpoint, tmp_path, head, said):
    with pytest.raises(HeadError, match=rf"training it needs a {said} .* choose a T2V or an InP"):
        train_lora(replace(job, checkpoint=checkpoint(V5_1, head)), tmp_path)


def test_messages_name_what_a_job_has(job, tmp_path):
    """Its user has neither a YAML file nor a command line."""
    (folder,) = {train_lora(job, tmp_path).file.parents[1]}
    with pytest.raises(InputError) as error:
        train_lora(replace(job, steps=1), tmp_path)
    said = str(error.value)
    assert "has done 3 steps and steps is 1" in said
    assert f"Set steps to 3 or more, change the seed for a new run, or delete {folder} to" in said
    assert "--" not in said

    def fail(stage, done, _total):
        if (stage, done) == ("train", 1):
            raise MemoryError

    with pytest.raises(InputError) as error:
        train_lora(replace(job, seed=4), tmp_path, progress=fail)
    said = str(error.value)
    assert "choose smaller images or shorter frames_per_clip (5)" in said
    with pytest.raises(InputError, match=r"diverged\. Lower learning_rate and start again\."):
        train_lora(replace(job, steps=30, learning_rate=1e30), tmp_path)
    told = train_lora(replace(job, steps=1, rank=99, learning_rate=0.09), tmp_path).report
    assert "warning: rank is 99" in told
    assert "warning: learning_rate is 0.09" in told
    for word in ("run.", "data.", "model.", "optimizer.", "--"):
        assert not any(word in line for line in told.splitlines() if "warning" in line)
