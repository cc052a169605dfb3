"""The config of a run refuses what is wrong by name, and says what is allowed."""

from pathlib import Path

import pytest
import yaml

from easyanimate_core.errors import InputError
from easyanimate_core.training.config import TASK_NAMES, parse_config, read_config
from tests.training_runs import config, settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def refusal(**changes):
    with pytest.raises(InputError) as error:
        config("out", "checkpoint", **changes)
    return str(error.value)


def test_an_unknown_key_names_the_near_one_and_all():
    said = refusal(optimizer__learning_rat=0.1)
    assert "optimizer.learning_rat is unknown. Did you mean learning_rate?" in said
    assert "Allowed: kind, learning_rate, betas, weight_decay" in said


def test_an_unknown_section_is_refused_at_the_top():
    assert "optimiser is unknown. Did you mean optimizer?" in refusal(optimiser__kind="adamw")


def test_a_bare_no_of_yaml_is_a_precision():
    assert config("out", "checkpoint", run__precision=yaml.safe_load("no")).run.precision == "no"
    assert "run.precision is True" in refusal(run__precision=yaml.safe_load("yes"))


def test_every_fault_is_named_at_once():
    said = refusal(run__steps=0, data__fps=-1)
    assert "run.steps is 0" in said
    assert "data.fps is -1" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "upscale"}, "task is 'upscale': Input should be 'text_to_video', 'inpaint'"),
        ({"run__steps": 0}, "run.steps is 0: Input should be greater than or equal to 1"),
        ({"run__ema": 1.0}, "run.ema is 1.0: Input should be less than 1"),
        ({"data__frames": [1, 8]}, "data.frames is [1, 8]: frames is 8; the length must be 4n + 1"),
        ({"data__synthetic__frames": 6}, "frames is 6; the length must be 4n + 1"),
        ({"data__synthetic__height": 40}, "data.synthetic.height is 40"),
        ({"data__synthetic__repeat": {"star": 2}}, "unknown star; shapes are circle, square"),
        ({"data__synthetic__repeat": {"cross": 0}}, "data.synthetic.repeat.cross is 0"),
        ({"data__crop_masks": 0.5}, "data: has crop_masks 0.5 but no crop; set crop"),
        ({"data__manifest": "a.json"}, "data: takes `manifest` or `synthetic`, not both"),
        ({"data__crop": [1, 16, 16]}, "is for the VAE only: sizes come from `data.tokens`"),
        ({"model": {}}, "model: needs `checkpoint`, or `network` for a new network"),
        ({"model__weights": "w"}, "`weights` initialise a new network"),
        (
            {"model__lora": {}, "model__network": {"num_layers": 1}},
            "a LoRA adapts trained weights: set `checkpoint`, not `network`",
        ),
        ({"task": "vae", "model__lora": {}}, "the VAE has no LoRA: omit `model.lora`"),
        ({"run__ema": 0.9, "model__lora": {}}, "a LoRA is trained without weight averaging"),
        ({"model__lora": {"rank": 0}}, "model.lora.rank is 0"),
        ({"model__lora": {"layers": ["norm"]}}, "Input should be 'attention' or 'feed_forward'"),
        ({"objective__masks": {"start": 0.0}}, "the shares must be positive numbers"),
        ({"objective__masks": {"corner": 1.0}}, "Input should be 'start', 'end', 'both'"),
        ({"vae_objective__perceptual": 1.0}, "`perceptual` needs `lpips_weights`"),
        (
            {"vae_objective": {"decoder_only": True, "keep_latents": 0.3}},
            "`decoder_only` already keeps the latents; omit keep_latents",
        ),
        ({"optimizer__kind": "sgd"}, "Input should be 'adamw', 'adamw8bit' or 'muon'"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused(changes, said):
    assert said in refusal(**changes)


def test_what_is_missing_is_named():
    content = settings("out", "checkpoint")
    del content["run"]["steps"], content["output"]
    with pytest.raises(InputError) as error:
        parse_config(content, "mine.yaml")
    assert str(error.value).startswith("mine.yaml is invalid:")
    assert "output is missing; it is required." in str(error.value)
    assert "run.steps is missing; it is required." in str(error.value)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_task_is_accepted(task):
    more = {}
    if task == "reward":
        more = {
            "model__lora": {}, "data": {}, "reward": {"rewards": {"saturation": {}}},
        }  # fmt: skip
    if task == "distill":
        more = {"distill": {}}
    assert config("out", "checkpoint", task=task, **more).task == task


def test_a_file_is_read_and_overridden(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("task: vae\noutput: out\nmodel: {checkpoint: c}\ndata: {}\nrun: {steps: 5}\n")
    read = read_config(path, ("run.steps=7", "data.frames=[1, 5]", "optimizer.kind=adamw8bit"))
    assert read.run.steps == 7
    assert read.data.frames == (1, 5)
    assert read.optimizer.kind == "adamw8bit"


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        (None, (), "There is no config"),
        ("a: [", (), "is not valid YAML"),
        ("- 1", (), "write `key: value` lines"),
        ("task: vae", ("run.steps",), "has no value; write KEY=VALUE"),
        ("task: vae", ("task.kind=1",), "task is a value, not a section"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, overrides, said):
    path = tmp_path / "run.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_config(path, overrides)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_ships_is_read(path):
    assert read_config(path).output.parts[0] == "runs"


def test_a_home_folder_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    file = tmp_path / "run.yaml"
    text = "{task: vae, output: ~/runs/one, data: {manifest: ~/clips.json}, run: {steps: 1}}"
    file.write_text(text)
    read = read_config(file, ("model.checkpoint=~/model",))
    assert (read.output, read.model.checkpoint) == (tmp_path / "runs/one", tmp_path / "model")
    assert read.data.manifest == tmp_path / "clips.json"
