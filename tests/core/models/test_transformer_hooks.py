"""What a host may put around the blocks and in place of the attention."""

import pytest
import torch

from easyanimate_core.models.specs import Head
from easyanimate_core.models.transformer import Stretch, rotary_table, scaled_dot_product
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.loading import load_transformer
from tests.factories import LATENTS, V5_1


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    folder = make_tiny(tmp_path_factory.mktemp("t") / "tiny", version=V5_1, head=Head.T2V)
    return load_transformer(inspect_checkpoint(folder), dtype=torch.float32)


@pytest.fixture(scope="module")
def inputs(transformer):
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(1, 4, transformer.config.text_embed_dim, generator=generator)
    return torch.randn(1, *LATENTS, generator=generator), torch.tensor([500.0]), text


def test_around_block_sees_every_block_in_order(transformer, inputs):
    seen = []

    def watch(index, run, video, text):
        seen.append((index, tuple(video.shape), tuple(text.shape)))
        return run(video, text)

    watched = transformer(*inputs, around_block=watch)
    assert torch.equal(watched, transformer(*inputs))
    tokens = LATENTS[1] * LATENTS[2] * LATENTS[3] // 4
    dim = transformer.config.inner_dim
    assert seen == [(i, (1, tokens, dim), (1, 4, dim)) for i in range(3)]


def test_around_block_may_skip_a_block(transformer, inputs):
    def skip_second(index, run, video, text):
        return (video, text) if index == 1 else run(video, text)

    assert not torch.allclose(transformer(*inputs, around_block=skip_second), transformer(*inputs))


def test_attention_of_the_call_is_used_in_every_block(transformer, inputs):
    calls = []

    def kernel(q, k, v):
        calls.append(tuple(q.shape))
        return scaled_dot_product(q, k, v)

    assert torch.equal(transformer(*inputs, attention=kernel), transformer(*inputs))
    assert len(calls) == transformer.config.num_layers


def test_positions_may_be_stretched_and_shifted(transformer, inputs):
    sample = inputs[0]
    plain = transformer.rotary_table(sample)
    unchanged = transformer.rotary_table(sample, Stretch())
    assert all(torch.equal(a, b) for a, b in zip(plain, unchanged, strict=True))
    # Every second of five frames is where the frames of three are.
    full, half = rotary_table(8, (5, 4, 4)), rotary_table(8, (3, 4, 4))
    doubled = rotary_table(8, (3, 4, 4), stretch=Stretch(scale=(2.0, 1.0, 1.0)))
    later = rotary_table(8, (3, 4, 4), stretch=Stretch(shift=(2.0, 0.0, 0.0)))
    for whole, plain_part, scaled, shifted in zip(full, half, doubled, later, strict=True):
        frames = whole.unflatten(0, (5, 16))
        assert torch.allclose(scaled.unflatten(0, (3, 16)), frames[::2])
        assert torch.allclose(shifted.unflatten(0, (3, 16)), frames[2:])
        assert not torch.allclose(plain_part, scaled)
