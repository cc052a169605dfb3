"""The VAE against diffusers' class, weights copied through the key map in both directions.

Diffusers runs in float64 here: its own float32 result is 8e-6 away from it, ours 4e-6.
"""

import pytest
import torch
from diffusers import AutoencoderKLMagvit as Reference

from easyanimate_core.models.specs import VAEConfig
from easyanimate_core.models.vae import AutoencoderKLMagvit

TOLERANCE = 1e-5
WIDTHS = (8, 8, 16, 16)


def _pair(per_frame):
    torch.manual_seed(5)
    reference = Reference(
        block_out_channels=list(WIDTHS), norm_num_groups=4, spatial_group_norm=per_frame
    ).eval()
    config = VAEConfig(block_out_channels=WIDTHS, norm_num_groups=4, spatial_group_norm=per_frame)
    return AutoencoderKLMagvit(config), reference


def _compare(vae, reference):
    reference.double()
    video = torch.rand(2, 3, 9, 24, 16, generator=torch.Generator().manual_seed(6)) * 2 - 1
    theirs = reference.encode(video.double()).latent_dist
    latents = theirs.mean.float()
    decoded = reference.decode(latents.double()).sample
    for dtype, tolerance in ((torch.float32, TOLERANCE), (torch.float64, 1e-12)):
        ours = vae.to(dtype).encode(video.to(dtype))
        assert _error(ours.mean, theirs.mean) <= tolerance
        assert _error(ours.logvar, theirs.logvar) <= tolerance
        assert _error(vae.decode(latents.to(dtype)), decoded) <= tolerance


def _error(actual, expected):
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max())


@pytest.mark.parametrize("per_frame", [True, False], ids=["v5.1", "v5"])
def test_weights_of_diffusers_here(per_frame):
    vae, reference = _pair(per_frame)
    vae.load_state_dict(reference.state_dict())
    _compare(vae, reference)


@pytest.mark.parametrize("per_frame", [True, False], ids=["v5.1", "v5"])
def test_our_weights_in_diffusers(per_frame):
    vae, reference = _pair(per_frame)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in vae.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.copy_(noise * 0.1 + (1 if name.endswith("weight") else 0))
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
    reference.load_state_dict(vae.state_dict())
    _compare(vae, reference)


def test_both_layouts_name_the_tensors_alike():
    vae, reference = _pair(True)
    ours, theirs = set(vae.state_dict()), set(reference.state_dict())
    assert ours == theirs, "there is no key map for the VAE: its names must be the same"
