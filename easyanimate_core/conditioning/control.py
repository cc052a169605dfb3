"""Control video, camera and reference image as a condition.

Shapes: B batch, C latent channels, F latent frames, H and W latent height and width.

Source: aigc-apps/EasyAnimate, easyanimate/pipeline/pipeline_easyanimate_control.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..progress import Progress, silent
from .encode import VideoEncoder, encode_video
from .inpaint import resize_to_latents

#: Pluecker rays are weighed up to the size of latents.
CAMERA_SCALE = 6.0


def control_condition(
    vae: VideoEncoder, video_BCFHW: Tensor, *, progress: Progress = silent
) -> Tensor:
    """A control video (edges, poses, depth, tracks) in [-1, 1] as channels [1, C, F, H, W]."""
    return encode_video(vae, video_BCFHW, progress=progress)


def camera_condition(plucker_FHWC: Tensor, size: Sequence[int]) -> Tensor:
    """Pluecker rays [frames, height, width, 6] as channels [1, 6, F, H, W] of latent `size`."""
    rays = plucker_FHWC.permute(3, 0, 1, 2).unsqueeze(0)
    return resize_to_latents(rays, size) * CAMERA_SCALE


def with_reference(
    vae: VideoEncoder,
    control_BCFHW: Tensor,
    reference_BCFHW: Tensor | None,
    *,
    progress: Progress = silent,
) -> Tensor:
    """`control_BCFHW` followed by the reference's channels, [1, channels + C, F, H, W].

    The reference picture [1, 3, 1, height, width] in [-1, 1] lies in the first latent frame, zeros
    in the others; without a reference all are zeros. (The original drops the reference of a
    one-frame video without a word; here it is kept.)
    """
    latents = None
    if reference_BCFHW is not None:
        latents = encode_video(vae, reference_BCFHW, progress=progress)
    return beside_reference(control_BCFHW, latents, vae.config.latent_channels)


def beside_reference(
    control_BCFHW: Tensor, reference_BC1HW: Tensor | None, latent_channels: int
) -> Tensor:
    """`control_BCFHW` followed by the reference's latents in the first frame, zeros elsewhere."""
    batch, _, frames, height, width = control_BCFHW.shape
    channels = control_BCFHW.new_zeros((batch, latent_channels, frames, height, width))
    if reference_BC1HW is not None:
        channels[:, :, :1] = reference_BC1HW.to(channels)
    return torch.cat([control_BCFHW, channels], dim=1)
