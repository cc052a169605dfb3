"""The rotary embedding's forms: complex, in place and compiled, against the formula."""

import pytest
import torch

from easyanimate_core.models.transformer import rope, rotary_table

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
GRID, TEXT, HEADS, DIM = (3, 5, 7), 4, 3, 32


def random(tokens, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, tokens, HEADS, DIM, generator=generator) * 3).to(dtype)


@pytest.fixture(scope="module")
def table():
    return rotary_table(DIM, GRID)


def formula(x, table):
    """Every pair (a, b) becomes (a cos - b sin, b cos + a sin), in float32."""
    cos, sin = (part[:, None] for part in table)
    a, b = x.float()[..., ::2], x.float()[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2).to(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("part", [1, 2**22])
def test_every_form_gives_the_same_bits(monkeypatch, table, dtype, part):
    monkeypatch.setattr(rope, "_PART_VALUES", part)
    text, video = random(TEXT, dtype), random(table.shape[1], dtype, seed=1)
    wanted = torch.cat([text, formula(video, table)], dim=1)
    joint = torch.cat([text, video], dim=1)
    with torch.inference_mode():
        assert torch.equal(rope.rotated(video, table), wanted[:, TEXT:])
        assert torch.equal(rope.with_rotated_video(joint.clone(), TEXT, table), wanted)
        assert torch.equal(rope.text_and_rotated(text, video.clone(), table), wanted)
    monkeypatch.setattr(rope, "_multiplies_complex", lambda _: False)  # other devices, compiled
    assert torch.equal(rope.text_and_rotated(text, video, table), wanted)
    assert torch.equal(joint[:, TEXT:], video)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_rotated_back(dtype):
    with torch.inference_mode(mode=False), torch.enable_grad():
        table = rotary_table(DIM, GRID)
        text, video = random(TEXT, dtype), random(table.shape[1], dtype).requires_grad_()
        change = random(TEXT + table.shape[1], dtype, seed=2)
        apart = rope.text_and_rotated(text, video, table)
        joint = rope.with_rotated_video(torch.cat([text, video], dim=1), TEXT, table)
        assert torch.equal(apart, joint)
        joint.backward(change)
    assert torch.equal(joint[:, TEXT:], formula(video, table))
    back = torch.stack([table[0], -table[1]], dim=-1).permute(2, 0, 1)
    assert torch.equal(video.grad, formula(change[:, TEXT:], back))


def test_values_that_are_not_finite_stay_with_their_pair(table):
    """Complex multiplication may repair infinities; the formula does not."""
    for bad in (torch.inf, -torch.inf, torch.nan):
        video = random(table.shape[1], torch.float32)
        video[0, 7, 1, 4] = bad
        with torch.inference_mode():
            found = rope.rotated(video, table)
        assert torch.equal(found.isfinite(), formula(video, table).isfinite())
