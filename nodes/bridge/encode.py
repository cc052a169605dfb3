"""Encodes aligned sources with a VAE, as conditions for the denoiser or initial latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...easyanimate_core.conditioning.channels import (
    Shown,
    shown_camera,
    shown_control,
    shown_pixels,
)
from ...easyanimate_core.conditioning.condition import Sources
from ...easyanimate_core.conditioning.encode import encode_video
from ...easyanimate_core.conditioning.inpaint import resize_to_latents
from ...easyanimate_core.conditioning.known import known_latents, known_share
from ...easyanimate_core.media import align_mask
from ...easyanimate_core.models.geometry import TEMPORAL_FACTOR, latent_shape
from ...easyanimate_core.models.specs import LATENT_CHANNELS
from ...easyanimate_core.sampling import draw_noise
from ...easyanimate_core.tasks import Target
from .vae import EncodingVAE


def empty_latent(target: Target, batch: int) -> dict[str, Any]:
    """A LATENT of zeros: everything is generated."""
    size = latent_shape(target.frames, target.height, target.width)
    device = comfy.model_management.intermediate_device()
    return {"samples": torch.zeros(batch, LATENT_CHANNELS, *size, device=device)}


def video_latent(vae: Any, sources: Sources, batch: int) -> dict[str, Any]:
    """The LATENT of a video, to be sampled with denoise below 1."""
    encoder = EncodingVAE(vae)
    assert sources.video is not None
    scaled = encode_video(encoder, sources.video)
    return {"samples": (scaled / encoder.config.scaling_factor).repeat(batch, 1, 1, 1, 1)}


def latent_with_known(vae: Any, latent: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """A LATENT with a noise mask that keeps the known parts of an InP model's sources.

    A latent of the whole clip keeps its samples; otherwise the known ones are filled in.
    """
    assert sources.video is not None
    assert sources.mask is not None
    if sources.whole:
        share = known_share(sources.mask, whole=True)
        return {**latent, "noise_mask": 1 - share}
    encoder = EncodingVAE(vae)
    known = known_latents(encoder, sources.video, sources.mask, whole=False)
    if known is None:
        return dict(latent)
    samples = (known.latents / encoder.config.scaling_factor).expand_as(latent["samples"])
    return {**latent, "samples": samples.to(latent["samples"]), "noise_mask": 1 - known.share}


def pinned_latent(
    vae: Any, latent: Mapping[str, Any], first: Tensor | None, last: Tensor | None
) -> dict[str, Any]:
    """A LATENT whose first or last latent frame is an image [1, 3, 1, H, W] and is kept.

    The first latent frame is one frame; the last is four, all of which show the image.
    """
    samples = latent["samples"].clone()
    mask = torch.ones(1, 1, *samples.shape[2:])
    encoder = EncodingVAE(vae)
    for place, picture in ((0, first), (-1, last)):
        if picture is None:
            continue
        frames = picture if place == 0 else picture.repeat(1, 1, 1 + TEMPORAL_FACTOR, 1, 1)
        encoded = encoder.encode(frames).mean
        samples[:, :, place] = encoded[:, :, place].to(samples)
        mask[:, :, place] = 0
    return {**latent, "samples": samples, "noise_mask": mask}


def encode_known(vae: Any, sources: Sources, *, noise_amplitude: float, seed: int) -> Shown:
    """Encode the known pixels of a video for an InP model.

    Their noise is the second draw of `seed`, after the initial noise of sampling.
    """
    assert sources.video is not None
    assert sources.mask is not None
    generator = torch.Generator().manual_seed(seed)
    draw_noise((LATENT_CHANNELS, *latent_shape(*sources.video.shape[2:])), [generator])
    return shown_pixels(
        EncodingVAE(vae),
        sources.video,
        sources.mask,
        noise_amplitude=noise_amplitude,
        generators=[generator],
    )


def encode_control(vae: Any, sources: Sources, strength: float) -> Shown:
    """Encode a control video, and a reference image if there is one, for a Control model."""
    assert sources.control is not None
    return shown_control(EncodingVAE(vae), sources.control, sources.reference, strength=strength)


def encode_camera(vae: Any, sources: Sources, target: Target) -> Shown:
    """Camera rays, and a reference image if there is one, for a Control-Camera model."""
    assert sources.plucker is not None
    size = latent_shape(target.frames, target.height, target.width)
    return shown_camera(EncodingVAE(vae), sources.plucker, size, sources.reference)


def latent_mask(mask: Tensor | None, target: Target) -> Tensor | None:
    """Resize a MASK [F, H, W] or [1, H, W] to latent size, [1, 1, F, H, W]; None stays None."""
    if mask is None:
        return None
    size = {"height": target.height, "width": target.width, "frames": target.frames}
    pixels = align_mask(mask.detach().to("cpu", torch.float32), **size)
    latent = latent_shape(target.frames, target.height, target.width)
    return resize_to_latents(pixels[None, None], latent)
