"""What will be trained is said before the first step, with what looks wrong."""

import json
from pathlib import Path

import pytest
import torch

from easyanimate_core.media import write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.text import Cut, cut_of
from easyanimate_core.training.account import Facts, account_of
from easyanimate_core.training.config import read_config
from easyanimate_core.training.data.buckets import Batches, shapes_for
from easyanimate_core.training.data.manifest import manifest_records
from easyanimate_core.training.data.records import Record, Sample, Shape
from easyanimate_core.training.doubts import doubts_of
from easyanimate_core.training.run import run_training
from easyanimate_core.training.words import common_words, words_of
from tests.factories import V5, V5_1, pixels
from tests.training_runs import config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
LORA = {"rank": 2, "alpha": 2.0}


def record(name, frames=9, height=32, width=32, caption="ohwx, a fox", **more):
    seconds = 0.0 if frames == 1 else frames / 8
    load = lambda _: Sample(torch.zeros(1))  # noqa: E731
    given = {"seconds": seconds, **more}
    return Record(name, (caption,), frames, height, width, load, name=name, **given)


def facts(records, *, ranks=1, lora=(), cuts=(), **changes):
    """The facts of a run on records alone."""
    wanted = config("out", "checkpoint", **{"data__synthetic": None, **changes})
    return facts_of_config(wanted, records, ranks=ranks, lora=lora, cuts=cuts)


def facts_of_config(wanted, records, *, ranks=1, lora=(), cuts=()):
    data = wanted.data
    shapes = [shapes_for(one, data.tokens, data.frames) for one in records]
    tokens = data.tokens_per_batch or max(data.tokens)
    if wanted.task == "vae":
        tokens = max(s.tokens for own in shapes for s in own) * data.clips_per_batch
    if wanted.reward is not None:
        size = Shape(wanted.reward.frames, wanted.reward.height, wanted.reward.width)
        shapes = [[size]] * len(records)
        tokens = data.tokens_per_batch or size.tokens
    order = Batches(records, shapes, tokens_per_batch=tokens, ranks=ranks, seed=wanted.seed)
    return Facts(wanted, records, order, ranks, {"denoiser": 12_000}, lora, cuts)


def warnings(records, **changes):
    """The warnings that a change adds."""
    calm = {"optimizer__learning_rate": 1e-4, "run__save_every": 10, "run__steps": 100}
    return doubts_of(facts(records, **{**calm, **changes}))


FOUR = [record(f"{name}.mp4", caption=f"ohwx {name}") for name in "abcd"]
ONE_SHAPE = {"data__tokens": [12], "data__frames": [9], "data__tokens_per_batch": 24}


def test_a_mixed_dataset_is_counted_exactly():
    records = [
        record("a.mp4", 9, caption="ohwx, a fox runs"),
        record("b.mp4", 13, caption="a bird of ohwx"),
        record("c.mp4", 9, caption="ohwx, a fox runs"),
        record("d.png", 1, 64, 64, caption=""),
    ]
    said = account_of(
        facts(
            records,
            data__tokens=[12],
            data__frames=[9, 1],
            data__tokens_per_batch=24,
            run__steps=30,
            run__accumulate=2,
        )
    ).splitlines()
    assert said[0] == "What will be trained:"
    lines = dict(line.strip().split(": ", 1) for line in said[1:])
    assert lines["data"].startswith("3 clips and 1 picture; ")
    assert "of 3.9 seconds are used" in lines["data"]
    assert "different, of 4 words, 1 empty; 2 times: 'ohwx, a fox runs'" in lines["captions"]
    assert lines["in every caption"] == "ohwx"
    assert lines["trained"] == (
        "12,000 parameters of the denoiser, by adamw at a learning rate of 0.01"
    )


def test_shapes_batches_and_steps_are_those_of_the_run():
    records = [*FOUR, record("e.mp4", 9, 32, 64), record("f.png", 1, 64, 64)]
    found = facts(
        records, data__tokens=[12, 16], data__frames=[9, 1], data__tokens_per_batch=36,
        run__steps=10, run__accumulate=2,
    )  # fmt: skip
    counts = {}
    for draw in found.drawn:
        counts[draw.shape] = counts.get(draw.shape, 0) + 1
    assert sum(counts.values()) == len(records)
    said = account_of(found)
    for shape, count in counts.items():
        size = f"of {shape.width} x {shape.height} ({shape.tokens} tokens): {count}"
        assert size in said
    assert f"  batches: {len(found.epoch)} per epoch" in said
    assert f"  steps: 10, {len(found.epoch) / 2:g} per epoch (2 batches each): " in said


def test_one_shape_gives_round_numbers():
    said = account_of(facts([*FOUR, record("e.mp4")], run__steps=9, **ONE_SHAPE)).splitlines()
    assert said[2:5] == [
        "  shapes: 9 frames of 32 x 32 (12 tokens): 5 per epoch",
        "  batches: 3 per epoch, of 2 clips; 100% of 24 tokens are used; 1 of 6 places are filled "
        "up with clips of the same epoch",
        "  steps: 9, 3 per epoch: 3 epochs",
    ]


def test_a_batch_that_is_not_full_says_so():
    said = account_of(facts(FOUR, **ONE_SHAPE | {"data__tokens_per_batch": 23}))
    assert "4 per epoch, of 1 clip; 52% of 23 tokens are used" in said


def test_a_sensible_run_is_not_doubted():
    assert warnings(FOUR, **ONE_SHAPE) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer__learning_rate": 0.05}, "learning_rate is 0.05; for all weights, 1e-06 to"),
        ({"optimizer__learning_rate": 1e-9}, "hardly learn"),
        ({"optimizer__learning_rate": 0.05, "model__lora": LORA}, "for a LoRA, 1e-05 to 0.001"),
        ({"optimizer__warmup": 100}, "optimizer.warmup is 100 and run.steps is 100"),
        ({"run__save_every": 200}, "no state is saved before the end"),
        ({"run__steps": 1, "run__save_every": 1}, "2 of 4 never are. Set run.steps to at least 2"),
        ({"data__tokens_per_batch": 96}, "one has 8 places for 4 clips of 9 x 32 x 32"),
        ({"ranks": 4}, "one has 8 places for 4 clips"),
        ({"run__accumulate": 6}, "a step goes through all clips 3 times"),
        ({"data__frames": [9, 49]}, "no clip has 49 frames at 8 per second"),
        ({"data__tokens": [12, 3328]}, "no clip is large and long enough for 3328 tokens"),
        ({"objective__caption_dropout": 1.0}, "no caption is trained on"),
        ({"model__lora": {"rank": 64, "alpha": 64}, "lora": ((64, 32),)}, "has 32 channels"),
        ({"model__lora": {"rank": 128, "alpha": 1}, "lora": ((256, 256),)}, "alpha / rank is 0.0"),
    ],
)
def test_what_makes_no_sense_is_doubted(changes, said):
    (doubt,) = warnings(FOUR, **ONE_SHAPE | changes)
    assert doubt.startswith("warning: ") and said in doubt


def test_shapes_far_below_a_clips_size_name_the_tokens():
    large = [record(f"{n}.mp4", 9, 96, 96) for n in range(3)]
    (doubt,) = warnings(large, data__tokens=[3], data__frames=[9], data__tokens_per_batch=3)
    assert "3 of 3 clips are trained far below their own size, such as 0.mp4 of 96 x 96" in doubt
    assert "9 frames at 16 x 16" in doubt and "set data.tokens to 108 alone" in doubt
    assert shapes_for(large[0], (108,), (9,))[0] == (9, 96, 96)


def test_a_large_clip_in_a_trained_size_is_not_doubted():
    """The account has its own size."""
    film = [record(f"{name}.mp4", 49, 2160, 3840, f"ohwx {name}") for name in "abcd"]
    shapes = {"data__frames": [49], "data__tokens": [13312], "data__tokens_per_batch": 13312}
    assert warnings(film, **shapes) == ()
    said = account_of(facts(film, **shapes))
    assert "49 frames of 672 x 384 (13104 tokens): 4 per epoch; files have 3840 x 2160" in said
    (doubt,) = warnings(film, **shapes | {"data__tokens": [1000], "data__tokens_per_batch": 1000})
    assert "are trained far below their own size" in doubt


def test_own_rates_are_told_and_slow_ones_doubted():
    rates = {"a.mp4": 30.0, "b.mp4": 29.97, "c.mp4": 30.0, "d.mp4": 7.5, "e.gif": 2.0}
    clips = [
        record(name, caption=f"ohwx {name}", fps=fps, is_even=name != "b.mp4")
        for name, fps in rates.items()
    ]
    said = account_of(facts(clips, **ONE_SHAPE))
    assert (
        "\n  frames per second: 2: 1 clip, 7.5: 1 clip, 30: 2 clips, varying: 1 clip; of each "
        "second, 8 frames are used\n"
    ) in said
    (doubt,) = warnings(clips, **ONE_SHAPE)
    assert doubt.startswith(
        "warning: 1 of 5 clips have fewer frames per second than data.fps (8), such as e.gif with 2"
    )
    assert warnings(clips, **ONE_SHAPE, data__fps=2) == ()


def test_the_rates_are_those_of_the_files(tmp_path):
    rates = {"slow.mp4": 4, "phone.mp4": 30, "sport.mp4": 60}
    for name, fps in rates.items():
        frames = torch.linspace(0, 1, 3 * fps)[:, None, None, None].expand(-1, 32, 32, 3)
        write_mp4(tmp_path / name, frames, fps=fps)
    rows = [{"file_path": name, "text": name} for name in rates]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    found = manifest_records(tmp_path / "train.json", None, fps=8, report=print)
    assert [(r.fps, r.is_even, r.frames) for r in found] == [(f, True, 24) for f in rates.values()]
    for clip in found:  # brightness tells the moment
        light = clip.load(Shape(17, 32, 32), 4).frames.mean((1, 2, 3)) * 3
        wanted = torch.arange(4, 21) / 8
        assert (light - wanted).abs().max() < 0.16 + (0.13 if clip.fps < 8 else 0)


def test_captions_that_are_missing_or_cut_are_doubted():
    silent = [*FOUR, record("e.mp4", caption=" ")]
    (doubt,) = warnings(silent, **ONE_SHAPE)
    assert "1 of 5 clips have no caption, such as e.mp4" in doubt
    cuts = (Cut("Bert", 77, {"ohwx a": "a"}), Cut("mT5", 256, {"ohwx b": "the end"}))
    (doubt,) = warnings(FOUR, cuts=cuts, **ONE_SHAPE)
    assert "mT5 leaves out words: 1 caption longer than 256 tokens; 'ohwx b' loses 'the end'" in (
        doubt
    )
    assert warnings(FOUR, cuts=(*cuts[:1], Cut("mT5", 256, {})), **ONE_SHAPE) == ()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_examples_are_not_doubted_on_sensible_data(file):
    wanted = read_config(file)
    if wanted.data.synthetic is not None:
        made = wanted.data.synthetic
        sizes, count = (made.frames, made.height, made.width), min(made.count, 400)
    else:
        sizes, count = (60, 1080, 1920), 400
    records = [record(f"{n}.mp4", *sizes, caption=f"a fox {n}") for n in range(count)]
    assert doubts_of(facts_of_config(wanted, records)) == ()


@pytest.mark.parametrize(
    ("captions", "common"),
    [
        ([], ()),
        (["", " "], ()),
        (["A photo of sks_dog.", "sks_dog, on the beach, photo"], ("photo", "sks_dog")),
        (["Ohwx runs", "a cat", "ohwx"], ()),
        (["OHWX runs", "the ohwx sits", ""], ("OHWX",)),
        (["sks风格,一只狐狸在跑", "一只猫,sks风格"], ("一只", "sks", "风格")),
        (["一只狐狸", "a fox"], ()),
        (["a fox", "a fox"], ("fox",)),
    ],
)
def test_words_that_all_captions_share(captions, common):
    assert set(common_words(captions)) == set(common)
    assert len(common_words(captions)) == len(common)


def test_words_are_counted_in_every_script():
    assert words_of("A dog's life, 3 times") == ["A", "dog's", "life", "3", "times"]
    assert len(words_of("红色的狐狸 sks")) == 6
    assert words_of("") == []


@pytest.mark.parametrize("version", [V5_1, V5])
def test_a_caption_that_is_cut_tells_what_is_lost(checkpoint, version):
    folder = checkpoint(version, Head.T2V)
    long = " ".join(f"word{n}" for n in range(300))
    cuts = cut_of(folder, version, ["a fox", long, long])
    assert len(cuts) == (1 if version is V5_1 else 2)
    for cut in cuts:
        assert list(cut.words) == [long]
        assert cut.words[long].endswith("word299") or "299" in cut.words[long]
        assert "<|im_end|>" not in cut.words[long]


@pytest.fixture
def dataset(tmp_path):
    rows = []
    for seed in range(2):
        write_mp4(tmp_path / f"{seed}.mp4", pixels(seed, frames=9, height=32, width=32), fps=8)
        rows.append({"file_path": f"{seed}.mp4", "text": f"ohwx {seed}"})
    write_png(tmp_path / "p.png", pixels(3, height=64, width=64))
    rows.append({"file_path": "p.png", "text": "ohwx still", "type": "image"})
    (tmp_path / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path


def wanted_run(dataset, folder, **changes):
    return config(
        dataset / "run", folder,
        data__synthetic=None, data__manifest=str(dataset / "train.json"),
        data__frames=[1, 9], data__tokens=[12], model__lora=LORA, **changes,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_says_it_first_and_keeps_it(checkpoint, dataset):
    said = []
    wanted = wanted_run(dataset, checkpoint(V5_1, Head.T2V))
    run_training(wanted, report=said.append)
    assert said[0].startswith("What will be trained:\n  data: 2 clips and 1 picture; 2.2 of 2.2 s")
    assert "  in every caption: ohwx\n" in said[0]
    assert "LoRA of rank 2 and alpha 2, strength 1, on " in said[0]
    first_step = next(n for n, line in enumerate(said) if line.startswith("step 1"))
    assert all(line.startswith("warning: ") for line in said[1:first_step])
    kept = (dataset / "run" / "account.txt").read_text(encoding="utf-8")
    assert kept == "\n".join(said[:first_step]) + "\n"
    again = []
    more = wanted_run(dataset, checkpoint(V5_1, Head.T2V), run__steps=3)
    run_training(more, report=again.append)
    assert again[0].startswith("What will be trained:")


def test_a_dry_run_says_it_and_starts_nothing(checkpoint, dataset):
    said = []
    wanted = wanted_run(dataset, checkpoint(V5_1, Head.T2V))
    assert run_training(wanted, dry_run=True, report=said.append) == []
    assert said[0].startswith("What will be trained:")
    assert not (dataset / "run" / "config.json").exists()
    run_training(wanted, report=said.append)


def test_the_vae_has_an_account_without_captions(checkpoint, tmp_path):
    said = []
    wanted = config(tmp_path / "run", checkpoint(V5_1, Head.T2V), task="vae")
    run_training(wanted, dry_run=True, report=said.append)
    assert "  shapes: 5 frames of 32 x 32 (8 tokens): 4 per epoch\n" in said[0]
    assert "caption" not in said[0]
    assert "parameters of the vae" in said[0]
