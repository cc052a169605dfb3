"""Aligned sources to what the denoiser is shown beside the noise, for every head.

Shapes: B batch, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import HeadError
from ..progress import Progress, silent
from ..specs import Head, TransformerConfig
from .control import camera_condition, control_condition, with_reference
from .encode import VideoEncoder, encode_video
from .held import Held, hold_known, known_share
from .inpaint import inpaint_condition

#: Standard deviation of the noise on known pixels that the original uses.
REFERENCE_NOISE = 0.0563


@dataclass(frozen=True)
class Sources:
    """What a mode gives the model to see, in the target's size and length.

    Videos are [1, 3, F, H, W] in [-1, 1]; `mask` is [1, 1, F, H, W] with 1 where the model
    generates, and `whole` says that the video has true pixels there, too; `plucker` is
    [F, H, W, 6]; `reference` has one frame. `strength` below 1 starts from the noised `video`.
    `notes` says what the alignment changed, one sentence each.
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
    """What the denoiser gets.

    `channels` [B, channels, F, H, W] go beside the noise, None for a T2V head; the schedule starts
    from the `known` latents [B, C, F, H, W], None at full strength; sampling keeps what is `held`.
    """

    channels: Tensor | None
    known: Tensor | None
    held: Held | None = None


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
        config: The denoiser's configuration: its head says which channels it takes.
        sources: Aligned pixels.
        size: Latent (F, H, W).
        noise_amplitude: Noise on known pixels (InP).
        keep_known: Hold what is known (InP).
        generators: One per sample; the InP head draws its pixel noise from them.
        progress: Reports the stage "encode".
    """
    batch = len(generators)
    known = None
    if sources.strength < 1:
        assert sources.video is not None
        known = encode_video(vae, sources.video, progress=progress)
    channels: Tensor | None = None
    held: Held | None = None
    if config.head is Head.INPAINT:
        channels = _inpaint_channels(
            vae, sources, size, noise_amplitude=noise_amplitude, generators=generators,
            progress=progress,
        )  # fmt: skip
        if keep_known:
            held = _held(vae, sources, known, progress)
    elif config.head in (Head.CONTROL, Head.CAMERA):
        channels = _control_channels(vae, config, sources, size, progress)
    if known is not None:
        known = known.expand(batch, -1, -1, -1, -1)
    if channels is not None:
        channels = channels.expand(batch, -1, -1, -1, -1)
    return Condition(channels, known, held)


def _inpaint_channels(
    vae: VideoEncoder,
    sources: Sources,
    size: Sequence[int],
    *,
    noise_amplitude: float,
    generators: Sequence[torch.Generator],
    progress: Progress,
) -> Tensor:
    video, mask = sources.video, sources.mask
    if video is None or mask is None or bool((mask > 0.5).all()):  # nothing is known
        return torch.zeros(len(generators), 1 + vae.config.latent_channels, *size)
    return inpaint_condition(
        vae,
        video,
        mask,
        noise_amplitude=noise_amplitude,
        generators=generators,
        progress=progress,
    )


def _held(
    vae: VideoEncoder, sources: Sources, known: Tensor | None, progress: Progress
) -> Held | None:
    """What is known; latents of the whole clip that are there already are taken."""
    if sources.video is None or sources.mask is None:
        return None
    if known is not None:
        return Held(known, known_share(sources.mask, whole=sources.whole).to(known))
    return hold_known(vae, sources.video, sources.mask, whole=sources.whole, progress=progress)


def _control_channels(
    vae: VideoEncoder,
    config: TransformerConfig,
    sources: Sources,
    size: Sequence[int],
    progress: Progress,
) -> Tensor:
    if config.head is Head.CAMERA:
        assert sources.plucker is not None
        channels = camera_condition(sources.plucker, size)
    else:
        assert sources.control is not None
        channels = control_condition(vae, sources.control, progress=progress)
    if config.has_reference:
        return with_reference(vae, channels, sources.reference, progress=progress)
    if sources.reference is not None:
        raise HeadError(
            f"This {config.head.value} head takes no reference image. Use a V5.1 "
            f"{config.head.value} checkpoint, or leave the reference out."
        )
    return channels
