"""What is trained on: buckets of equal token counts, draws, caches, records."""

import collections

import pytest
import torch
from safetensors.torch import load_file, save_file

from easyanimate_core.errors import InputError
from easyanimate_core.models.specs import Head
from easyanimate_core.text.build import build_text_encoder
from easyanimate_core.training.config import SyntheticConfig
from easyanimate_core.training.data.buckets import Batches, shapes_for
from easyanimate_core.training.data.cache import LatentCache, digest, digest_of_files
from easyanimate_core.training.data.records import Record, Sample, Shape, generator_of
from easyanimate_core.training.data.synthetic import synthetic_records
from easyanimate_core.training.text import Captions
from easyanimate_core.weights.files import inspect_checkpoint
from tests.factories import V5, V5_1
from tests.training_runs import SHAPE, clips, config


def record(frames=49, height=512, width=512):
    return Record("one", ("a",), frames, height, width, lambda _: Sample(torch.zeros(1)))


@pytest.mark.parametrize(
    ("frames", "side", "tokens"), [(49, 512, 13312), (21, 768, 13824), (9, 1024, 12288)]
)
def test_the_originals_buckets_hold_their_shapes(frames, side, tokens):
    (shape,) = shapes_for(record(frames, side, side), (tokens,), (frames,))
    assert shape == (frames, side, side)
    assert shape.tokens == tokens


@pytest.mark.parametrize("size", [(480, 848), (848, 480), (512, 512), (300, 1000), (512, 520)])
def test_shapes_fit_the_budget_and_the_clip(size):
    shapes = shapes_for(record(30, *size), (300, 1000, 3328), (1, 9, 21, 49))
    assert {shape.frames for shape in shapes} <= {1, 9, 21}
    for shape in shapes:
        assert min(shape) > 0
        assert shape.height % 16 == shape.width % 16 == 0
        assert shape.height <= size[0]
        assert shape.width <= size[1]
        assert any(0.75 * budget <= shape.tokens <= budget for budget in (300, 1000, 3328))
        ratio = (shape.height / shape.width) / (size[0] / size[1])
        assert 0.7 < ratio < 1.4


def test_a_budget_of_less_than_a_token_per_frame_gives_no_shape():
    assert shapes_for(record(49), (5,), (49,)) == []


def test_a_clip_is_never_enlarged():
    assert shapes_for(record(49, 64, 64), (13312,), (49,)) == []


BATCHED = [record(9, side, 64) for side in (64, 64, 32, 32, 32, 64, 32)]
SHAPES = [shapes_for(one, (12, 24, 48), (1, 9)) for one in BATCHED]


TWICE = {"tokens_per_batch": 96}


def batches(**changes):
    return Batches(BATCHED, SHAPES, **{"tokens_per_batch": 48, "seed": 5, **changes})


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_clip_comes_once_per_epoch_and_ranks_get_one_shape(ranks):
    for number in range(3):
        drawn = collections.defaultdict(list)
        for step in batches(ranks=ranks).epoch(number):
            assert len(step) == ranks
            (shape,) = {draw.shape for rank in step for draw in rank}
            assert {len(rank) for rank in step} == {max(1, 48 // shape.tokens)}
            drawn[shape] += [draw.index for rank in step for draw in rank]
        once = [index for indices in drawn.values() for index in set(indices)]
        assert sorted(once) == list(range(len(BATCHED)))
        for shape, indices in drawn.items():  # the last batch of a shape is filled up, no more
            filled = len(indices) - len(set(indices))
            assert filled < ranks * max(1, 48 // shape.tokens)


def test_two_devices_get_what_one_with_twice_the_batch_gets():
    one, two = (batches(**changes).epoch(0) for changes in (TWICE, {"ranks": 2}))
    assert [step[0][0::2] for step in one] == [step[0] for step in two]
    assert [step[0][1::2] for step in one] == [step[1] for step in two]


def test_the_order_follows_from_the_seed():
    assert batches().epoch(1) == batches().epoch(1)
    assert batches().epoch(1) != batches().epoch(2)
    assert batches().epoch(1) != batches(seed=6).epoch(1)


@pytest.mark.parametrize("position", [0, 1, 7, 20])
def test_a_position_goes_on_with_the_same_sequence(position):
    whole, rest = batches(ranks=2).of_rank(1), batches(ranks=2).of_rank(1, position)
    wanted = [next(whole) for _ in range(position + 12)][position:]
    assert [next(rest) for _ in range(12)] == wanted


def test_clips_that_fit_no_bucket_are_counted():
    with pytest.raises(InputError, match=r"1 of 2 clips fit no bucket.* 9 frames of 16 x 16"):
        Batches([record(9), record(9, 16, 16)], [[Shape(9, 32, 32)], []], tokens_per_batch=1)
    with pytest.raises(InputError, match="the data has no clips"):
        Batches([], [], tokens_per_batch=1)


def test_a_cache_gives_back_what_it_was_given(tmp_path):
    cache = LatentCache(tmp_path, "encoder")
    latents = torch.randn(16, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert cache.read("clip", SHAPE) is None
    cache.write(latents, "clip", SHAPE)
    assert torch.equal(cache.read("clip", SHAPE), latents.half().float())
    assert cache.read("clip", SHAPE._replace(frames=1)) is None
    assert LatentCache(tmp_path, "another encoder").read("clip", SHAPE) is None


def changed(content):
    """One bit of the numbers: as long as before, and as good a safetensors file."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damaged", [lambda _: b"", lambda _: b"not a tensor at all", lambda c: c[:-2], changed]
)
def test_a_damaged_entry_counts_as_none(tmp_path, damaged):
    cache = LatentCache(tmp_path, "encoder")
    cache.write(torch.ones(2), "clip")
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(damaged(file.read_bytes()))
    assert cache.read("clip") is None
    cache.write(torch.ones(2), "clip")
    assert torch.equal(cache.read("clip"), torch.ones(2))


def test_what_is_not_finite_is_encoded_anew(tmp_path):
    cache = LatentCache(tmp_path, "encoder")
    cache.write(torch.tensor([1.0, float("nan")]), "clip")
    assert cache.read("clip") is None


def test_an_entry_of_another_clip_counts_as_none(tmp_path):
    cache = LatentCache(tmp_path, "encoder")
    cache.write(torch.ones(2), "clip")
    (file,) = tmp_path.rglob("*.safetensors")
    cache.write(torch.zeros(2), "another")
    (other,) = set(tmp_path.rglob("*.safetensors")) - {file}
    file.write_bytes(other.read_bytes())
    assert cache.read("clip") is None


def test_an_entry_of_an_earlier_version_is_read(tmp_path):
    cache = LatentCache(tmp_path, "encoder")
    cache.write(torch.ones(2), "clip")
    (file,) = tmp_path.rglob("*.safetensors")
    save_file(load_file(file), file)
    assert torch.equal(cache.read("clip"), torch.ones(2))


def test_digests_tell_contents_apart(tmp_path):
    assert digest("a", 1) == digest("a", 1) != digest("a", 2)
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    assert digest_of_files(tmp_path / "a") != digest_of_files(tmp_path / "b")


def test_draws_depend_on_their_parts_alone():
    one, same, other = (generator_of(1, part, 2).random(4).tolist() for part in ("a", "a", "b"))
    assert one == same != other


def test_synthetic_records_are_clips_of_the_asked_size():
    first, second = clips(count=2)
    sample = first.load(SHAPE)
    assert sample.frames.shape == sample.control.shape == (5, 32, 32, 3)
    assert sample.masks.shape == (5, 32, 32)
    assert len(sample.camera) == 5
    assert len(first.captions) == 2
    assert first.identity != second.identity
    with pytest.raises(InputError, match="has 5 frames of 32 x 32; 9 of 32 x 32 were requested"):
        first.load(SHAPE._replace(frames=9))
    single = first.load(SHAPE._replace(frames=1))
    assert torch.equal(single.frames, sample.frames[:1])
    assert torch.equal(single.control, sample.control[:1])
    assert torch.equal(single.masks, sample.masks[:1])
    assert len(single.camera) == 1


def test_scenes_of_a_shape_are_repeated_as_asked():
    plain = synthetic_records(SyntheticConfig(count=40))
    more = synthetic_records(SyntheticConfig(count=40, repeat={"cross": 3}))
    crosses = [record.identity for record in plain if "cross" in record.captions[0]]
    assert 0 < len(crosses) < 40
    counts = collections.Counter(record.identity for record in more)
    assert counts == {r.identity: 3 if r.identity in crosses else 1 for r in plain}


def test_each_clip_has_one_of_the_looks():
    def records(*looks):
        content = SyntheticConfig(count=30, looks=looks, height=32, width=32, frames=5)
        return [record.identity for record in synthetic_records(content)]

    plain, drawn = records("textured"), records("outlined")
    assert not set(plain) & set(drawn)
    both = records("textured", "outlined")
    assert all(look in ways for look, *ways in zip(both, plain, drawn, strict=True))
    assert 5 < len(set(both) & set(plain)) < 25
    assert records("textured", "outlined") == both


@pytest.mark.parametrize("version", [V5_1, V5])
def test_captions_that_are_encoded_ahead_need_no_text_encoder(
    checkpoint, tmp_path, monkeypatch, version
):
    folder = checkpoint(version, Head.T2V)
    sizes = inspect_checkpoint(folder).transformer
    model, cpu = config("out", folder).model, torch.device("cpu")
    masked = sizes.enable_text_attention_mask
    plain = build_text_encoder(folder, version, use_attention_mask=masked, dtype=torch.float32)
    seen = []
    captions = Captions(model, sizes, tmp_path)
    captions.encode_ahead(["a fox", "", "a fox"], cpu, lambda *told: seen.append(told))
    assert seen == [("captions", 0, 2), ("captions", 1, 2)]
    again = Captions(model, sizes, tmp_path)
    monkeypatch.setattr("easyanimate_core.training.text.build_text_encoder", None)
    again.encode_ahead(["", "a fox"], cpu, lambda *told: seen.append(told))
    assert len(seen) == 2
    states = again.states(["a fox"], cpu)
    wanted = plain.encode(["a fox"]).states
    assert torch.equal(states.text, wanted.text.half().float())
    if version is V5:
        assert torch.equal(states.text_t5, wanted.text_t5.half().float())
