"""Noise goes on and comes off by the same formulas, whatever a model generation predicts."""

import pytest
import torch

from easyanimate_core.models.specs import Version
from easyanimate_core.sampling import PUBLISHED_CONFIG, prediction_of

CLEAN, NOISE = torch.randn(2, 4, 8, 2, 3, 3, generator=torch.Generator().manual_seed(0))
TIMESTEPS = torch.tensor([20.0, 250.0, 700.0, 990.0]).view(-1, 1, 1, 1, 1)


@pytest.fixture(params=Version, ids=lambda version: version.value)
def prediction(request):
    return prediction_of(request.param, PUBLISHED_CONFIG[request.param])


def test_what_was_mixed_is_taken_apart(prediction):
    levels = prediction.levels(TIMESTEPS)
    latents = levels.noised(CLEAN, NOISE)
    target = prediction.target(CLEAN, NOISE, levels)
    torch.testing.assert_close(prediction.clean(latents, target, levels), CLEAN)
    again = prediction.velocity(latents, CLEAN, levels)
    torch.testing.assert_close(again, target, atol=1e-4, rtol=1e-4)


def test_noise_of_diffusion_is_taken_off_too():
    prediction = prediction_of(Version.V5, PUBLISHED_CONFIG[Version.V5])
    levels = prediction.levels(TIMESTEPS)
    target = prediction.target(CLEAN, NOISE, levels)
    noise = prediction.noise(levels.noised(CLEAN, NOISE), target, levels)
    torch.testing.assert_close(noise, NOISE)


@pytest.mark.parametrize("version", Version)
def test_a_sigma_has_the_levels_of_its_timestep(version):
    prediction = prediction_of(version, PUBLISHED_CONFIG[version])
    levels = prediction.levels(TIMESTEPS)
    sigma = levels.spread if version is Version.V5_1 else levels.spread / levels.signal
    for found, wanted in zip(prediction.levels_of_sigma(sigma), levels, strict=True):
        torch.testing.assert_close(found, wanted)


def test_training_and_sampling_count_the_same_timesteps(prediction):
    times = torch.tensor([0.0, 0.25, 0.9])
    assert prediction.timesteps(times).tolist() == [0.0, 250.0, 900.0]
