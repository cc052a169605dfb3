"""Encoding aligned sources as the denoiser's condition, for every head.

Shapes: B batch, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.specs import Head, TransformerConfig
from ..progress import Progress, silent
from .channels import Shown, nothing_known, shown_camera, shown_control, shown_pixels
from .encode import VideoEncoder, encode_video
from .known import Known, known_latents, known_share

#: Standard deviation of the noise on known pixels in the original.
REFERENCE_NOISE = 0.0563


@dataclass(frozen=True)
class Sources:
    """A mode's inputs to the model, in the target's size and length.

    Videos are [1, 3, F, H, W] in [-1, 1]; `mask` is [1, 1, F, H, W] with 1 where the model
    generates, and `whole` means that the video has real pixels there, too; `plucker` is
    [F, H, W, 6]; `reference` has one frame. With `strength` below 1, sampling starts from the
    noised `video`. `notes` are sentences on what the alignment changed.
    """

    video: Tensor | None = None
    mask: Tensor | None = None
    whole: bool = False
    control: Tensor | None = None
    plucker: Tensor | None = None
    reference: Tensor | None = None
    strength: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """The encoded inputs of a run.

    `channels` [B, channels, F, H, W] are appended to the noise, None for a T2V head; the schedule
    starts from the `start` latents [B, C, F, H, W], None at full strength; sampling keeps the
    `known` latents fixed.
    """

    channels: Tensor | None
    start: Tensor | None
    known: Known | None = None


def make_condition(
    vae: VideoEncoder,
    config: TransformerConfig,
    sources: Sources,
    size: Sequence[int],
    *,
    noise_amplitude: float = REFERENCE_NOISE,
    keep_known: bool = False,
    generators: Sequence[torch.Generator],
    progress: Progress = silent,
) -> Condition:
    """Encode `sources` for the head of `config`.

    Args:
        vae: Encodes pixels.
        config: The denoiser's configuration, whose head determines the channels.
        sources: Aligned pixels.
        size: Latent (F, H, W).
        noise_amplitude: Standard deviation of the noise on known pixels (InP).
        keep_known: Whether sampling keeps known latents fixed (InP).
        generators: One per sample; the InP head draws its pixel noise from them.
        progress: Reports the stage "encode".
    """
    batch = len(generators)
    start = None
    if sources.strength < 1:
        assert sources.video is not None
        start = encode_video(vae, sources.video, progress=progress)
    shown = _shown(
        vae, config.head, sources, size, noise_amplitude=noise_amplitude, generators=generators,
        progress=progress,
    )  # fmt: skip
    known: Known | None = None
    if config.head is Head.INPAINT and keep_known:
        known = _known(vae, sources, start, progress)
    if start is not None:
        start = start.expand(batch, -1, -1, -1, -1)
    channels: Tensor | None = None
    if shown is not None:
        channels = shown.beside_noise(config).expand(batch, -1, -1, -1, -1)
    return Condition(channels, start, known)


def _known(
    vae: VideoEncoder, sources: Sources, start: Tensor | None, progress: Progress
) -> Known | None:
    """The known latents, taken from `start` if the whole clip is already encoded."""
    if sources.video is None or sources.mask is None:
        return None
    if start is not None:
        return Known(start, known_share(sources.mask, whole=sources.whole).to(start))
    return known_latents(vae, sources.video, sources.mask, whole=sources.whole, progress=progress)


def _shown(
    vae: VideoEncoder,
    head: Head,
    sources: Sources,
    size: Sequence[int],
    *,
    noise_amplitude: float,
    generators: Sequence[torch.Generator],
    progress: Progress,
) -> Shown | None:
    if head is Head.T2V:
        return None
    if head is Head.CAMERA:
        assert sources.plucker is not None
        return shown_camera(vae, sources.plucker, size, sources.reference, progress=progress)
    if head is Head.CONTROL:
        assert sources.control is not None
        return shown_control(vae, sources.control, sources.reference, progress=progress)
    if sources.video is None or sources.mask is None:
        return nothing_known(len(generators), size, vae.config.latent_channels)
    return shown_pixels(
        vae,
        sources.video,
        sources.mask,
        noise_amplitude=noise_amplitude,
        generators=generators,
        progress=progress,
    )
