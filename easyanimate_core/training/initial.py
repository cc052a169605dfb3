"""Initial weights, drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit

#: Layers of the denoiser that are initialised to zero: every block starts as the identity
#: (adaLN-Zero, Peebles and Xie, arXiv 2212.09748) and the prediction is zero.
_ZERO = ("norm1.linear", "norm2.linear", "norm_out.linear", "proj_out")

_CONV3D_DIMS = 5
#: Initial log-variance of a new VAE's latents; their means start with a variance near 1.
_LOGVAR = -6.0


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> None:
    """Set norms to one, biases to zero, and matrices to uniform in +-sqrt(3 / fan-in).

    Temporal convolutions start with only their newest frame: otherwise every layer of a causal VAE
    lags by a frame, and it takes long to unlearn the total lag.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, layer in network.named_modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        bias = getattr(layer, "bias", None)
        if isinstance(bias, Tensor):
            bias.zero_()
        if weight.ndim == 1:
            weight.fill_(1.0)
        elif isinstance(network, EasyAnimateTransformer3DModel) and name.endswith(_ZERO):
            weight.zero_()
        else:
            newest = weight[:, :, -1:] if weight.ndim == _CONV3D_DIMS else weight
            bound = math.sqrt(3 / math.prod(newest.shape[1:]))
            weight.zero_()
            newest.uniform_(-bound, bound, generator=generator)
    if isinstance(network, AutoencoderKLMagvit):
        _quieten(network)


def _quieten(vae: AutoencoderKLMagvit) -> None:
    """Make every residual block start as its shortcut, and latents with little noise.

    This keeps deep networks stable, and the decoder gets a signal from the first step.
    """
    for name, layer in vae.named_modules():
        if name.endswith(".conv2"):
            layer.weight.zero_()
    bias = vae.quant_conv.bias
    assert bias is not None
    bias[vae.config.latent_channels :] = _LOGVAR


@torch.no_grad()
def treat_frames_as_pictures(vae: AutoencoderKLMagvit) -> None:
    """Sum the taps of every temporal convolution into its newest frame.

    A VAE trained only on images has never seen the temporal taps differ; after this, it treats
    each frame of a clip as an image instead of mixing it with earlier ones.
    """
    for layer in vae.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == _CONV3D_DIMS:
            total = weight.sum(dim=2)
            weight.zero_()
            weight[:, :, -1] = total


def _noise_channels(network: nn.Module) -> int:
    assert isinstance(network, EasyAnimateTransformer3DModel)
    return network.config.out_channels


@torch.no_grad()
def copy_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy `weights` into the parameters of the same names; returns the names that do not fit.

    Input channels missing from a weight are set to zero, so that a head with new conditions starts
    as the head it comes from. Parameters that are missing or of another shape are left unchanged.
    """
    left = []
    for name, parameter in network.named_parameters():
        source = weights.get(name)
        if source is None:
            left.append(name)
        elif source.shape == parameter.shape:
            parameter.copy_(source)
        elif name == "proj.weight" and source.shape[0] == parameter.shape[0]:
            shared = min(source.shape[1], parameter.shape[1], _noise_channels(network))
            parameter.zero_()
            parameter[:, :shared].copy_(source[:, :shared])
        else:
            left.append(name)
    return left
