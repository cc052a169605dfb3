"""Guidance against its formula, and its limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easyanimate_core.errors import InputError
from easyanimate_core.sampling import Guidance, guided_denoiser

LATENTS = (2, 16, 2, 4, 6)


def draw(seed):
    return torch.randn(LATENTS, generator=torch.Generator().manual_seed(seed))


@given(st.floats(1, 30), st.floats(0, 1))
def test_guidance_is_its_formula(scale, rescale):
    negative, positive = draw(1), draw(2)
    guided = Guidance(scale, rescale).combine(negative, positive)
    plain = negative + scale * (positive - negative)
    for row in range(2):  # every sample has its own standard deviation
        rescaled = plain[row] * positive[row].std() / plain[row].std()
        expected = rescale * rescaled + (1 - rescale) * plain[row]
        torch.testing.assert_close(guided[row], expected)


def test_full_rescale_keeps_the_prompted_spread():
    negative, positive = draw(1), draw(2)
    guided = Guidance(12.0, 1.0).combine(negative, positive)
    torch.testing.assert_close(guided.std((1, 2, 3, 4)), positive.std((1, 2, 3, 4)))


def test_guidance_off_predicts_once_and_guidance_on_for_both():
    seen = []

    def predict(latents, timestep):
        seen.append((latents.shape[0], timestep.tolist()))
        return latents.to(torch.bfloat16)

    for scale in (1.0, 2.0):
        velocity = guided_denoiser(predict, Guidance(scale))(draw(1), torch.tensor(500))
        assert velocity.dtype == torch.float32
        assert velocity.shape == LATENTS
    assert seen == [(2, [500.0] * 2), (4, [500.0] * 4)]


@given(st.one_of(st.floats(max_value=1, exclude_max=True), st.just(math.nan), st.just(math.inf)))
def test_a_scale_below_one_or_no_number_is_refused(scale):
    with pytest.raises(InputError, match=r"guidance scale is .*; it must be at least 1 \(1 is"):
        Guidance(scale)


@pytest.mark.parametrize("rescale", [-0.1, 1.1, math.nan])
def test_a_rescale_out_of_range_is_refused(rescale):
    with pytest.raises(InputError, match=r"guidance rescale is .* between 0 and 1"):
        Guidance(6.0, rescale)
