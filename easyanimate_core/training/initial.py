"""Weights to start from, drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..models.transformer import EasyAnimateTransformer3DModel
from ..models.vae import AutoencoderKLMagvit

#: Layers of the denoiser that begin at zero: every block is the identity at first (adaLN-Zero,
#: Peebles and Xie, arXiv 2212.09748) and the prediction is zero.
_ZERO = ("norm1.linear", "norm2.linear", "norm_out.linear", "proj_out")

_CONV3D_DIMS = 5
#: Log-variance that a new VAE's latents begin with; their means begin with a variance near 1.
_LOGVAR = -6.0


@torch.no_grad()
def initialise(network: nn.Module, seed: int) -> None:
    """Norms to one, biases to zero, matrices uniform in +-sqrt(3 / fan-in).

    Convolutions over time begin with their newest frame alone: otherwise every layer of a causal
    VAE lags by a frame, and the sum of the lags takes long to be unlearned.
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
    """Every residual block begins as its shortcut, and latents have little noise.

    So depth costs no stability, and the decoder sees something from the first step.
    """
    for name, layer in vae.named_modules():
        if name.endswith(".conv2"):
            layer.weight.zero_()
    bias = vae.quant_conv.bias
    assert bias is not None
    bias[vae.config.latent_channels :] = _LOGVAR


@torch.no_grad()
def treat_frames_as_pictures(vae: AutoencoderKLMagvit) -> None:
    """Give the newest frame all that every convolution over time gives to three equal ones.

    A VAE that was trained on pictures alone has seen no difference between the taps of time; after
    this a clip's frames come out as they did, instead of mixed with those before.
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
    """Fill `network` with `weights` of the same names; returns the names that did not fit.

    Input channels that a weight does not have are set to zero, so that a head with new conditions
    begins as the head it comes from. Layers of another shape, and missing ones, keep theirs.
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
