"""A LoRA at every save and where a run is stopped, its header, and samples of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from easyanimate_core.convert import describe_file
from easyanimate_core.errors import CheckpointError, InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.settings import Settings
from easyanimate_core.training.lora_header import frequent_words, tags_of, trigger_of
from easyanimate_core.training.run import run_training
from easyanimate_core.weights.lora import Lora
from easyanimate_core.weights.lora.card import LoraCard
from tests.factories import V5, V5_1
from tests.training_runs import config, losses, settings, strategy_of, train

LORA = {"model__lora": {"rank": 2, "alpha": 3.0}}


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(V5_1, Head.T2V)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def header(file):
    with safe_open(file, "pt") as opened:
        return opened.metadata()


@pytest.mark.slow
def test_every_save_is_a_lora_that_makes_a_video(folder, tmp_path):
    (result,) = train(tmp_path / "a", folder, run__steps=5, run__save_every=2, **LORA)
    assert names(tmp_path / "a" / "loras") == [
        f"lora-0000000{step}.safetensors" for step in (2, 4, 5)
    ]
    pipeline = Pipeline.load(folder)
    small = Settings(height=32, width=32, frames=5, steps=1)
    made = [
        pipeline.generate("a circle", settings=small, loras=loras).latents
        for loras in ((), *((Lora(p),) for p in sorted((tmp_path / "a" / "loras").iterdir())))
    ]
    assert all(not torch.equal(one, other) for one, other in pairwise(made))
    assert (tmp_path / "a" / "loras" / "lora-00000005.safetensors").read_bytes() == (
        result.read_bytes()
    )

    # The same seed gives the same bytes; samples change nothing; only the newest are kept.
    (again,) = train(
        tmp_path / "b", folder, run__steps=5, run__save_every=2, run__keep_loras=1,
        sample__every=1, sample__steps=2, **LORA,
    )  # fmt: skip
    assert again.read_bytes() == result.read_bytes()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert names(tmp_path / "b" / "loras") == ["lora-00000005.safetensors"]
    pictures = [path.read_bytes() for path in (tmp_path / "b" / "samples").glob("*.png")]
    assert len(set(pictures)) == 5
    assert len(list((tmp_path / "b" / "samples").glob("*.mp4"))) == 5


@pytest.mark.parametrize("head", [Head.INPAINT, Head.CONTROL, Head.CAMERA])
def test_samples_of_every_head(checkpoint, tmp_path, head):
    task = {"InP": "inpaint", "Control": "control", "Control-Camera": "camera"}[head.value]
    train(
        tmp_path / "run", checkpoint(V5_1, head), task=task, run__steps=1, sample__every=1,
        sample__steps=1, sample__prompt="a fox",
    )  # fmt: skip
    assert (tmp_path / "run" / "samples" / "step-00000001.png").is_file()


def test_bf16_weights_make_samples(folder, tmp_path):
    train(
        tmp_path / "run", folder, run__steps=1, run__precision="bf16", sample__every=1,
        sample__steps=1, **LORA,
    )  # fmt: skip
    assert (tmp_path / "run" / "samples" / "step-00000001.png").is_file()


STOPPED = """
import os, signal, sys
from easyanimate_core.cli.main import main
from easyanimate_core.training import trainer

step = trainer.Trainer._step

def interrupted(self, *given):
    done = step(self, *given)
    self.count = getattr(self, "count", 0) + 1
    if self.count == 3:
        os.kill(os.getpid(), int(sys.argv[2]))
    return done

trainer.Trainer._step = interrupted
sys.exit(main(["train", sys.argv[1]]))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_saves_the_step_and_the_run_goes_on_as_if_it_had_not_come(
    folder, tmp_path, number
):
    changes = {"run__steps": 6, "run__save_every": 100, "run__log_every": 1, **LORA}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings(tmp_path / "run", folder, **changes)))
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, str(file), str(int(number))],
        capture_output=True,
        text=True,
        check=False,
        # Background jobs of a shell, and so their children, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr.strip().splitlines()[-1]
    lora = tmp_path / "run" / "loras" / "lora-00000003.safetensors"
    assert said.startswith("Stopped. Step 3 of 6 is finished and saved in ")
    assert str(lora) in said
    assert header(lora)["ss_steps"] == "3"
    assert names(tmp_path / "run" / "checkpoints") == ["step-00000003"]
    (resumed,) = train(tmp_path / "run", folder, **changes)
    (whole,) = train(tmp_path / "whole", folder, **changes)
    assert resumed.read_bytes() == whole.read_bytes()
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_stopped_while_a_sample_is_made(folder, tmp_path):
    wanted = config(
        tmp_path / "run", folder, run__steps=6, sample__every=2, sample__steps=3, **LORA
    )

    def cancel(stage, done, _total):
        if (stage, done) == ("sample", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(wanted, progress=cancel, report=lambda _: None)
    assert names(tmp_path / "run" / "loras") == ["lora-00000002.safetensors"]
    assert names(tmp_path / "run" / "checkpoints") == ["step-00000002"]


def test_the_header_says_what_it_is(folder, tmp_path):
    (result,) = train(tmp_path / "run", folder, run__steps=1, **LORA)
    found = header(result)
    assert found["easyanimate.version"] == "V5.1"
    assert found["easyanimate.head"] == "T2V"
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("2", "3.0")
    assert found["ss_seed"] == "3"
    assert found["ss_num_train_images"] == "4"
    assert found["modelspec.architecture"] == "easyanimate-v5.1-t2v/lora"
    assert sum(json.loads(found["ss_tag_frequency"])["captions"].values()) > 0
    assert str(tmp_path) not in json.dumps(found)
    facts = describe_file(result)
    assert (facts["version"], facts["head"]) == ("V5.1", "T2V")
    assert facts["lora"]["rank"] == "2"
    assert facts["lora"]["dataset"] == found["easyanimate.dataset"]


def test_words_of_captions():
    captions = ["ohwx fox, a red fox on snow", "A photo of ohwx fox in the wood", "ohwx Fox sleeps"]
    assert trigger_of(captions) == "ohwx, Fox"
    assert trigger_of(["sks dog"] * 3) == "sks dog"
    assert trigger_of(["a cat", "two dogs"]) == ""
    assert frequent_words(captions)[:2] == ["fox", "ohwx"]
    assert tags_of(["ohwx，红色的狐狸", "ohwx, snow"]) == {"ohwx": 2, "snow": 1, "红色的狐狸": 1}


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_tag_frequency": "[" * 100_000, "easyanimate.words": "{"},
        {"ss_tag_frequency": json.dumps({"a": ["x"], "b": {"<b>": "1", "c\x1b[31m": 2}})},
        {
            "modelspec.trigger_phrase": "<script>\x1b]0;x\x07" + "x" * 1_000_000,
            "ss_steps": "\n" * 9,
        },
        {
            "easyanimate.version": "V9",
            "easyanimate.head": "../..",
            "easyanimate.words": "[1, null]",
        },
        {"easyanimate.words": json.dumps(["\u202e" + "w" * 10_000] * 10_000)},
        {"ss_network_dim": "None", "ss_seed": "9" * 10_000},
    ],
)
def test_a_hostile_header_is_cut_and_escaped(metadata):
    card = LoraCard.of(metadata)
    text = "".join(card.lines())
    assert len(text) < 6000
    assert text.isprintable()
    assert (card.version, card.head) == (None, None)


def test_a_lora_of_another_version_or_head(checkpoint, folder, tmp_path):
    (result,) = train(tmp_path / "run", folder, run__steps=1, **LORA)
    small = Settings(height=32, width=32, frames=5, steps=1)
    with pytest.raises(
        CheckpointError, match=r"was trained for EasyAnimate V5.1, and the model is"
    ):
        Pipeline.load(checkpoint(V5, Head.T2V)).generate(
            "x", settings=small, loras=(Lora(result, partial=True),)
        )
    other = Pipeline.load(checkpoint(V5_1, Head.INPAINT))
    made = other.generate("x", settings=small, loras=(Lora(result),))
    assert any("trained on the T2V head and the model has the InP head" in n for n in made.notes)
    plain = tmp_path / "plain.safetensors"
    with safe_open(result, "pt") as opened:
        save_file({name: opened.get_tensor(name) for name in opened.keys()}, plain)  # noqa: SIM118
    made = other.generate("x", settings=small, loras=(Lora(plain),))
    assert not any("trained on" in note for note in made.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "vae", "sample__every": 1, "data__crop": [5, 32, 32]}, "set `sample.every` to 0"),
        ({"run__keep_loras": 2}, "omit `run.keep_loras`"),
        ({"sample__every": -1}, "sample.every is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, tmp_path, changes, said):
    with pytest.raises(InputError) as error:
        config(tmp_path / "run", folder, **changes)
    assert said in str(error.value)


def test_a_lora_can_be_gone_on_from(folder, tmp_path):
    (first,) = train(tmp_path / "a", folder, **LORA)
    given = {"rank": 2, "alpha": 3.0, "start": str(first)}
    strategy = strategy_of(config(tmp_path / "b", folder, model__lora=given))
    again = tmp_path / "again.safetensors"
    strategy.write_lora(strategy.networks["denoiser"].state_dict(), again, 2)
    known, found = (load_file(path) for path in (first, again))
    assert known.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in known.items())
    for changes, said in (
        ({"rank": 3}, "is no LoRA of rank 3"),
        ({"layers": ["attention"]}, "they differ in lora_unet_transformer_blocks_0_"),
        ({"alpha": 2.0}, "has an alpha of 3"),
    ):
        with pytest.raises(CheckpointError, match=said):
            strategy_of(config(tmp_path / "b", folder, model__lora={**given, **changes}))
    train(tmp_path / "b", folder, model__lora=given)
    moved = str(shutil.copy(first, tmp_path / "moved.safetensors"))
    more = {"model__lora": {**given, "start": moved}, "run__steps": 3}
    train(tmp_path / "b", folder, **more)  # the same file elsewhere
    save_file({name: 2 * tensor for name, tensor in known.items()}, moved)
    with pytest.raises(InputError, match="contains a run with other settings"):
        train(tmp_path / "b", folder, **more)
