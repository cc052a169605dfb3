"""Clips that are read ahead by other processes, which begin as they do on Windows and macOS."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.multiprocessing import reductions

from easyanimate_core.errors import InputError
from easyanimate_core.media import write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.training.data.buckets import Draw
from easyanimate_core.training.run import run_training
from tests.factories import V5_1, pixels
from tests.training_runs import SHAPE, config, losses, settings, strategy_of, train

ROOT = Path(__file__).parents[2]
HEADS = {
    "text_to_video": Head.T2V,
    "inpaint": Head.INPAINT,
    "control": Head.CONTROL,
    "camera": Head.CAMERA,
    "vae": Head.T2V,
}


class WithoutNetworks(pickle.Pickler):
    """Fails where a network would be sent: a copy of it for every process."""

    def reducer_override(self, value):
        assert not isinstance(value, nn.Module), f"{type(value).__name__} is sent to the workers"
        return NotImplemented


@pytest.mark.parametrize("task", HEADS)
def test_what_reads_a_batch_can_be_sent_and_holds_no_network(task, checkpoint, tmp_path):
    strategy = strategy_of(config(tmp_path, checkpoint(V5_1, HEADS[task]), task=task))
    with (tmp_path / "reader").open("wb") as file:
        WithoutNetworks(file).dump(strategy.read)
    sent = pickle.loads((tmp_path / "reader").read_bytes())
    draws = [Draw(index, SHAPE, 0) for index in range(2)]
    here, there = (read(draws) for read in (strategy.read, sent))
    if task == "vae":
        assert torch.equal(here.video, there.video)
    else:
        assert here.captions == there.captions
        for own, other in zip(here.samples, there.samples, strict=True):
            assert torch.equal(own.frames, other.frames)


def command(*words):
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_two_workers_give_the_losses_of_none(checkpoint, tmp_path):
    """With the VAE, whose layers' classes cannot be pickled, and the script that workers import."""
    for number in range(3):
        write_png(tmp_path / "data" / f"{number}.png", pixels(number, height=32, width=32)[0])
    entries = [{"file_path": f"{n}.png", "text": "a", "type": "image"} for n in range(3)]
    manifest = tmp_path / "data" / "metadata.json"
    manifest.write_text(json.dumps(entries), encoding="utf-8")
    wanted = {
        "task": "vae",
        "data__synthetic": None,
        "data__manifest": str(manifest),
        "data__frames": [1],
        "data__tokens": [4],
        "validation__manifest": str(manifest),
    }
    folder = checkpoint(V5_1, Head.T2V)
    train(tmp_path / "alone", folder, **wanted)
    content = settings(tmp_path / "two", folder, data__workers=2, **wanted)
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = command("-I", "easyanimate.py", "train", file)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == losses(tmp_path / "alone")


@pytest.mark.slow
def test_a_worker_that_is_ended_is_told(checkpoint, tmp_path):
    def end_one(stage, done, total):  # noqa: ARG001
        for worker in multiprocessing.active_children()[:1] if done else ():
            worker.kill()

    wanted = config(tmp_path / "run", checkpoint(V5_1, Head.T2V), data__workers=1, run__steps=1000)
    with pytest.raises(InputError, match=r"One of the 1 processes .* with fewer data\.workers"):
        run_training(wanted, progress=end_one, report=lambda _: None)


@pytest.mark.slow
def test_a_worker_that_is_ended_while_it_hands_a_batch_over_is_told(
    checkpoint, tmp_path, monkeypatch
):
    """The connection may break before PyTorch is told that the process has ended."""

    def broken(*_):
        raise ConnectionResetError

    monkeypatch.setattr(reductions, "rebuild_storage_fd", broken)
    with pytest.raises(InputError, match=r"One of the 1 processes .* with fewer data\.workers"):
        train(tmp_path / "run", checkpoint(V5_1, Head.T2V), data__workers=1)


@pytest.mark.slow
def test_a_refusal_of_a_worker_is_told_as_it_is(checkpoint, tmp_path):
    with pytest.raises(InputError) as error:
        train(
            tmp_path / "run",
            checkpoint(V5_1, Head.T2V),
            data__workers=1,
            data__tokens=[2],  # of one frame of 32 x 16, which no synthetic clip has
            data__frames=[1],
        )
    assert str(error.value).startswith("A synthetic clip has 5 frames of 32 x 32")
