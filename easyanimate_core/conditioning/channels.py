"""The condition channels of every head: what the denoiser sees in addition to the noise.

Command line, nodes and training all build them here, each with its own encoder.

Shapes: B batch, C latent channels, F frames (pixels: 4n + 1, latents: n + 1), H and W height and
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import HeadError
from ..models.geometry import latent_shape
from ..models.specs import Head, TransformerConfig
from ..progress import Progress, silent
from .control import camera_condition
from .encode import VideoEncoder, encode_video
from .inpaint import inpaint_condition


@dataclass(frozen=True)
class Shown:
    """Condition channels, scaled as the denoiser sees them.

    `channels` [B, channels, F, H, W] in latent size depend on `head`: mask and masked video (InP),
    control video (Control) or rays (Control-Camera). `reference` [B, C, 1, H, W] is a reference
    image.
    """

    head: Head
    channels: Tensor
    reference: Tensor | None = None

    def hidden(self) -> Shown:
        """The same with all channels zero: what the model sees when it is not controlled."""
        return replace(self, channels=torch.zeros_like(self.channels))

    def beside_noise(self, config: TransformerConfig) -> Tensor:
        """All condition channels, [B, `condition_channels`, F, H, W].

        Raises:
            HeadError: There is a reference image, but the head takes none.
        """
        if config.has_reference:
            return beside_reference(self.channels, self.reference, config.out_channels)
        if self.reference is not None:
            raise takes_no_reference(config)
        return self.channels


def nothing_known(batch: int, size: Sequence[int], latent_channels: int) -> Shown:
    """Text to video with an InP model: mask and masked video are all zeros."""
    return Shown(Head.INPAINT, torch.zeros(batch, 1 + latent_channels, *size))


def shown_pixels(
    vae: VideoEncoder,
    video_BCFHW: Tensor,
    mask_BCFHW: Tensor,
    *,
    noise_amplitude: float,
    generators: Sequence[torch.Generator],
    progress: Progress = silent,
) -> Shown:
    """Known pixels of a video for an InP model. For the arguments, see `inpaint_condition`."""
    if bool((mask_BCFHW > 0.5).all()):
        size = latent_shape(*video_BCFHW.shape[2:])
        return nothing_known(len(generators), size, vae.config.latent_channels)
    channels = inpaint_condition(
        vae,
        video_BCFHW,
        mask_BCFHW,
        noise_amplitude=noise_amplitude,
        generators=generators,
        progress=progress,
    )
    return Shown(Head.INPAINT, channels)


def shown_control(
    vae: VideoEncoder,
    video_BCFHW: Tensor,
    reference_BC1HW: Tensor | None = None,
    *,
    strength: float = 1.0,
    progress: Progress = silent,
) -> Shown:
    """A control video (edges, poses, depth, tracks) and a reference image, both in [-1, 1]."""
    channels = encode_video(vae, video_BCFHW, progress=progress) * strength
    return Shown(Head.CONTROL, channels, _reference(vae, reference_BC1HW, progress))


def shown_camera(
    vae: VideoEncoder,
    plucker_FHWC: Tensor,
    size: Sequence[int],
    reference_BC1HW: Tensor | None = None,
    *,
    progress: Progress = silent,
) -> Shown:
    """Pluecker rays [frames, height, width, 6] for latents of `size`, and a reference image."""
    channels = camera_condition(plucker_FHWC, size)
    return Shown(Head.CAMERA, channels, _reference(vae, reference_BC1HW, progress))


def beside_reference(
    control_BCFHW: Tensor, reference_BC1HW: Tensor | None, latent_channels: int
) -> Tensor:
    """`control_BCFHW` followed by the reference's latents in the first frame, zeros elsewhere.

    Without a reference, all are zeros. (The original silently drops the reference of a one-frame
    video; here it is kept.)
    """
    batch, _, frames, height, width = control_BCFHW.shape
    channels = control_BCFHW.new_zeros((batch, latent_channels, frames, height, width))
    if reference_BC1HW is not None:
        channels[:, :, :1] = reference_BC1HW.to(channels)
    return torch.cat([control_BCFHW, channels], dim=1)


def takes_no_reference(config: TransformerConfig) -> HeadError:
    """The error for a reference image given to a head without channels for it."""
    head = config.head.value
    return HeadError(
        f"This {config.version.value} {head} model takes no reference image: it needs the {head} "
        "head of V5.1. Leave the reference image out, or load such a model."
    )


def _reference(
    vae: VideoEncoder, reference_BC1HW: Tensor | None, progress: Progress
) -> Tensor | None:
    if reference_BC1HW is None:
        return None
    return encode_video(vae, reference_BC1HW, progress=progress)
